"""Which files of a folder are pictures: all that Pillow reads, none that is hidden."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from s4m_pipeline.data.formats.image_folder import list_images, listing_of, load
from s4m_pipeline.data.images import read_image
from s4m_pipeline.errors import UsageError


def picture(path: Path, kind: str | None = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.random.default_rng(0).integers(0, 256, (20, 30, 3)).astype(np.uint8)
    Image.fromarray(values).save(path, kind)


READABLE = ["a.jfif", "a.jpe", "a.avif", "a.jp2", "a.gif", "a.bmp", "a.TIFF", "a.webp", "a.jpg"]


def test_all_that_pillow_reads_is_taken_and_can_be_read(tmp_path: Path) -> None:
    for name in READABLE:
        picture(tmp_path / name)
    (tmp_path / "b.heic").write_bytes(b"not read by Pillow")
    assert list_images(tmp_path) == sorted(READABLE)
    for record in load(tmp_path).images:
        assert (record.height, record.width) == (20, 30)
        assert read_image(record.path).shape == (20, 30, 3)
    assert listing_of(tmp_path).rest() == "1 .heic (this Pillow does not read them)"


def test_hidden_files_and_folders_are_passed_over(tmp_path: Path) -> None:
    picture(tmp_path / "in" / "a.jpg")
    for name in (
        "._x.jpg",
        ".ipynb_checkpoints/a-checkpoint.jpg",
        "__MACOSX/in/a.jpg",
        "in/.thumbs/a.jpg",
        "in/.DS_Store.png",
    ):
        picture(tmp_path / name)
    assert list_images(tmp_path) == ["in/a.jpg"]
    (tmp_path / "notes.txt").write_text("")
    (tmp_path / "in" / "more.TXT").write_text("")
    (tmp_path / "in" / "README").write_text("")
    (tmp_path / "gone.jpg").symlink_to(tmp_path / "nowhere.jpg")
    rest = "1 without a suffix, 2 .txt, 5 hidden, 1 broken link"
    assert listing_of(tmp_path).rest() == rest


def test_a_hidden_folder_that_is_named_is_looked_into(tmp_path: Path) -> None:
    picture(tmp_path / ".data" / "a.jpg")
    assert list_images(tmp_path / ".data") == ["a.jpg"]


def test_linked_folders_are_followed_once(tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    picture(tmp_path / "other" / "deep" / "linked.jpg")
    picture(folder / "b" / "own.jpg")
    (folder / "camera2").symlink_to(tmp_path / "other")
    (folder / "a").symlink_to(folder / "b")  # before it, and the same folder
    (folder / "b" / "loop").symlink_to(folder)
    (tmp_path / "other" / "back").symlink_to(folder)
    listing = listing_of(folder)
    assert listing.names == ["b/own.jpg", "camera2/deep/linked.jpg"]
    assert listing.linked == ["camera2"]
    assert listing.rest() == ""


def test_a_folder_without_images_says_what_is_in_it(tmp_path: Path) -> None:
    (tmp_path / "a.heic").write_bytes(b"")
    (tmp_path / "b.mp4").write_bytes(b"")
    with pytest.raises(UsageError, match=r"no image in this folder.*1 \.heic .*1 \.mp4"):
        list_images(tmp_path)
