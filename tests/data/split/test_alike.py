"""A picture that is in a set twice stays in one part of a split, by name and by content."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from s4m_pipeline.data.check.check import check_coco
from s4m_pipeline.data.formats import coco
from s4m_pipeline.data.split.alike import Alike
from s4m_pipeline.data.split.split import SplitFiles, SplitSource
from s4m_pipeline.data.split.stratify import draw
from s4m_pipeline.errors import UsageError
from tests.small_sets import coco_content, write_json


@pytest.mark.parametrize("name", ["picture 0.png", "./picture 0.png", "x/../picture 0.png"])
@pytest.mark.parametrize("read", [coco.load, SplitSource])
def test_a_file_listed_twice_is_refused(
    small_set: tuple[Path, Path], name: str, read: type[SplitSource]
) -> None:
    (small_set[1] / "x").mkdir()
    content = coco_content()
    content["images"].append({**content["images"][0], "id": 1000, "file_name": name})
    write_json(small_set[0], content)
    with pytest.raises(UsageError, match=r"picture 0.png occurs twice \(images 0, 1000\)"):
        read(*small_set)
    assert "duplicate-file-name" in {fault.kind for fault in check_coco(*small_set)}


def test_the_case_that_people_have(shared_dir: Path, tmp_path: Path) -> None:
    folder = tmp_path / "scenes"
    shutil.copytree(shared_dir / "cases/06-split-leaks-repeated-entries/scenes", folder)
    with pytest.raises(UsageError, match=r"000001.jpg occurs twice \(images 1, 1001\)"):
        SplitSource(folder / "labelled.json", folder / "labelled")


def _twice(small_set: tuple[Path, Path], how: str) -> tuple[dict[int, int], int]:
    """List three of the pictures again, as other files; the ids of twins, and of images."""
    content, folder = coco_content(), small_set[1]
    twins = {}
    for number in (0, 1, 4):
        entry = content["images"][number]
        name, path = f"again {number}.png", folder / entry["file_name"]
        if how == "link":
            (folder / name).symlink_to(path)
        elif how == "copy":
            shutil.copy(path, folder / name)
        elif how == "pixels":
            Image.open(path).save(folder / name, compress_level=0)
        else:
            name = name.replace("png", "jpg")
            Image.open(path).save(folder / name, quality=95)
        twins[1000 + number] = entry["id"]
        content["images"].append({**entry, "id": 1000 + number, "file_name": name})
    write_json(small_set[0], content)
    return twins, len(content["images"])


def _ids(path: Path | None) -> set[int]:
    assert path is not None
    return {image["id"] for image in json.loads(path.read_text())["images"]}


@pytest.mark.parametrize("how", ["link", "copy", "pixels", "compressed"])
@pytest.mark.parametrize("stratified", [True, False])
def test_a_picture_is_in_one_part(
    small_set: tuple[Path, Path], tmp_path: Path, how: str, stratified: bool
) -> None:
    if how == "compressed":  # noise does not outlive compression; smooth pictures do
        for number, path in enumerate(sorted(small_set[1].iterdir())):
            width, height = Image.open(path).size
            x, y = np.meshgrid(np.arange(width), np.arange(height))
            wave = 127 + 120 * np.sin((number + 1) * x / 9) * np.cos((3 * number + 2) * y / 11)
            Image.fromarray(np.stack([wave] * 3, 2).astype(np.uint8)).save(path)
    twins, images = _twice(small_set, how)
    source = SplitSource(*small_set)
    assert len(source.alike) == 2 * len(twins)
    for seed in range(8):
        drawn = source.draw(34, seed, stratified, validation=34)
        share = int(0.34 * images)  # one less where only pairs are left
        assert share - 1 <= len(drawn.labelled) <= len(drawn.validation) == share
        files: SplitFiles = source.write(drawn, tmp_path / str(seed))
        parts = [_ids(p) for p in (files.labelled, files.unlabelled, files.validation)]
        for part in parts:
            assert all((twin in part) == (first in part) for twin, first in twins.items())
        assert sum(len(part) for part in parts) == images


def test_without_decoding_only_names_are_compared(small_set: tuple[Path, Path]) -> None:
    twins, _ = _twice(small_set, "copy")
    source = SplitSource(*small_set, decode=False)
    drawn = [source.draw(34, seed, validation=34) for seed in range(8)]
    assert any((t in d.labelled) != (f in d.labelled) for d in drawn for t, f in twins.items())


def test_a_listed_pictures_twin_is_in_no_other_part(
    small_set: tuple[Path, Path], tmp_path: Path
) -> None:
    _, images = _twice(small_set, "copy")
    (tmp_path / "list.txt").write_text("picture 0.png\nagain 1.png\n")
    source = SplitSource(*small_set)
    for seed in range(5):
        taken = source.take(tmp_path / "list.txt", seed, True, validation=20)
        assert taken.labelled == {0, 1001}
        assert not taken.validation & {0, 1000, 10, 1001}
        files = source.write(taken, tmp_path / "out")
        rest = _ids(files.unlabelled)
        assert not rest & ({0, 1000, 10, 1001} | taken.validation)
        told: dict[str, Any] = source.summary(taken)["images"]
        assert told["unlabelled"] == len(rest)
        assert len(rest) + len(taken.validation) + 4 == images


def test_a_split_that_parts_no_twins_is_the_one_without_them() -> None:
    labels = [[key % 5] * (key % 3) for key in range(60)]
    for stratified in (True, False):
        alone = draw(labels, 20, np.random.default_rng(3), stratified)
        kept = [alone[0], alone[7]]
        left = [place for place in range(60) if place not in alone][:3]
        assert draw(labels, 20, np.random.default_rng(3), stratified, [kept, left]) == alone
        parted = [alone[0], left[0]]
        again = draw(labels, 20, np.random.default_rng(3), stratified, [parted])
        assert again != alone
        assert len(set(again)) == 20
        assert len(set(parted) & set(again)) in (0, 2)


def test_groups_are_drawn_whole_where_they_do_not_fit() -> None:
    labels = [[1], [1], [2], [2], [2]]
    for stratified in (True, False):
        for seed in range(6):
            found = draw(labels, 1, np.random.default_rng(seed), stratified, [[0, 1], [2, 3, 4]])
            assert sorted(found) == [0, 1]
            found = draw(labels, 4, np.random.default_rng(seed), stratified, [[0, 1], [2, 3, 4]])
            assert sorted(found) in ([0, 1], [2, 3, 4])


def test_who_is_like_the_same_picture_is_alike() -> None:
    alike = Alike([(1, 2), (3, 4), (2, 3), (8, 9)])
    assert len(alike) == 6
    assert alike.closure([4]) == {1, 2, 3, 4}
    assert alike.closure([5, 9]) == {5, 8, 9}
    assert sorted(alike.places([9, 4, 1, 7])) == [[1, 2]] or alike.places([9, 4, 1, 7]) == [[2, 1]]


def test_names_that_are_not_utf8_are_compared_too(
    small_set: tuple[Path, Path], tmp_path: Path
) -> None:
    content, name = coco_content(), "gr\udcf6n.png"
    try:
        shutil.copy(small_set[1] / "picture 0.png", small_set[1] / name)
    except OSError:
        pytest.skip("this file system has no such names")
    content["images"].append({**content["images"][0], "id": 1000, "file_name": name})
    write_json(small_set[0], content)
    source = SplitSource(*small_set)
    assert source.alike.closure([0]) == {0, 1000}
    files = source.write(source.draw(100, 0), tmp_path)
    assert json.loads(files.labelled.read_text()) == content


def test_dark_pictures_of_more_than_8_bits_are_no_twins(tmp_path: Path) -> None:
    draw_values = np.random.default_rng(0)
    content: dict[str, Any] = {
        "images": [],
        "annotations": [],
        "categories": [{"id": 1, "name": "a"}],
    }
    for key in range(4):
        values = draw_values.integers(0, 14, (48, 48)).astype(np.uint16)  # black at 8 of 16 bits
        values[0, 0] = 4095 if key == 0 else 0
        Image.fromarray(values).save(tmp_path / f"{key}.png")
        content["images"].append({"id": key, "file_name": f"{key}.png", "height": 48, "width": 48})
        square = [[4, 4, 20, 4, 20, 20, 4, 20]]
        content["annotations"].append(
            {"id": key, "image_id": key, "category_id": 1, "segmentation": square}
        )
    shutil.copy(tmp_path / "0.png", tmp_path / "again.png")
    content["images"].append({"id": 9, "file_name": "again.png", "height": 48, "width": 48})
    source = SplitSource(write_json(tmp_path / "set.json", content), tmp_path)
    assert source.alike.closure([0]) == {0, 9}
    assert len(source.alike) == 2
