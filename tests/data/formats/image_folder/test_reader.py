"""Plain folders of images."""

from __future__ import annotations

from pathlib import Path

import pytest

from s4m_pipeline.data.formats import image_folder
from s4m_pipeline.errors import UsageError


def test_folder_ids_follow_sorted_names(tmp_path: Path, small_set: tuple[Path, Path]) -> None:
    folder = small_set[1]
    (folder / "sub").mkdir()
    (folder / "picture 5.png").rename(folder / "sub" / "a.PNG")
    (folder / "notes.txt").write_text("no image")
    (folder / "broken.jpg").write_bytes(b"nothing")
    found = image_folder.load(folder)
    names = [image.file_name for image in found.images]
    assert names == sorted(names) == image_folder.list_images(folder)
    assert [image.id for image in found.images] == list(range(1, 8))
    sizes = {image.file_name: (image.height, image.width) for image in found.images}
    assert sizes["sub/a.PNG"] == (56, 56)
    assert sizes["picture 0.png"] == (40, 60)
    assert sizes["broken.jpg"] == (0, 0)
    (tmp_path / "empty").mkdir()
    for bad in (tmp_path / "empty", tmp_path / "absent"):
        for read in (image_folder.load, image_folder.list_images):
            with pytest.raises(UsageError, match=bad.name):
                read(bad)
