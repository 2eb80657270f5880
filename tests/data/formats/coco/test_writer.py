"""Writing COCO files: what is written is what is read back."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from s4m_pipeline.data.formats import coco
from s4m_pipeline.errors import UsageError
from tests.small_sets import coco_content, write_json


def test_what_is_saved_is_read_back(small_set: tuple[Path, Path], tmp_path: Path) -> None:
    content = coco_content()
    content["annotations"][1] |= {"iscrowd": 1, "area": 12.5}
    images = coco.load(write_json(small_set[0], content), small_set[1])
    coco.save(images, tmp_path / "new" / "saved.json")
    again = coco.load(tmp_path / "new" / "saved.json", small_set[1])
    assert (again.categories, again.images) == (images.categories, images.images)
    for image_id, instances in images.instances.items():
        for one, other in zip(instances, again.instances[image_id], strict=True):
            told = {"file_bbox": one.file_bbox or one.bbox, "file_area": one.file_area or one.area}
            assert other == replace(one, **told)
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["saved.json"]


def test_annotations_without_a_pixel_keep_their_place(
    small_set: tuple[Path, Path], tmp_path: Path
) -> None:
    content = coco_content()
    content["annotations"][0]["segmentation"] = [[5.0, 5.0, 5.1, 5.0, 5.1, 5.1]]
    images = coco.load(write_json(small_set[0], content), small_set[1])
    coco.save(images, tmp_path / "saved.json")
    saved = json.loads((tmp_path / "saved.json").read_text())["annotations"]
    assert len(saved) == len(content["annotations"])
    again = coco.load(tmp_path / "saved.json", small_set[1])
    assert [mask.place for mask in again.empty[0]] == [0]
    assert again.empty[0][0].instance == images.empty[0][0].instance


def test_a_file_that_cannot_be_written_is_named(
    small_set: tuple[Path, Path], tmp_path: Path
) -> None:
    (tmp_path / "taken").write_text("")
    with pytest.raises(UsageError, match="taken is a file, not a folder"):
        coco.save(coco.load(*small_set), tmp_path / "taken" / "saved.json")
