"""Splits: sizes, determinism, nothing lost, classes kept in proportion."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from s4m_pipeline.data.coco import read_coco
from s4m_pipeline.data.split import split_coco, write_split
from s4m_pipeline.errors import UsageError
from tests.data.conftest import coco_content, write_json


def _class_error(part: dict, whole: dict, share: float) -> float:
    """Mean over classes of the relative error of the class's share of instances."""
    total = Counter(a["category_id"] for a in whole["annotations"])
    got = Counter(a["category_id"] for a in part["annotations"])
    return float(np.mean([abs(got[c] - share * n) / (share * n) for c, n in total.items()]))


def test_animals7_ten_percent(shared_dir: Path) -> None:
    folder = shared_dir / "data/animals7/train"
    path = folder / "_annotations.coco.json"
    whole = json.loads(path.read_text())
    labelled, unlabelled = split_coco(path, folder, 10, seed=0, stratified=True)
    assert (len(labelled["images"]), len(unlabelled["images"])) == (70, 630)
    assert unlabelled["annotations"] == []
    assert labelled["categories"] == unlabelled["categories"] == whole["categories"]
    entries = {image["id"]: image for image in whole["images"]}
    together = labelled["images"] + unlabelled["images"]
    assert {image["id"] for image in together} == set(entries)
    assert all(entries[image["id"]] == image for image in together)
    chosen = {image["id"] for image in labelled["images"]}
    assert labelled["annotations"] == [a for a in whole["annotations"] if a["image_id"] in chosen]
    plain = [split_coco(path, folder, 10, seed, False)[0] for seed in range(5)]
    assert _class_error(labelled, whole, 0.1) < 0.1
    assert _class_error(labelled, whole, 0.1) < np.mean(
        [_class_error(p, whole, 0.1) for p in plain]
    )


@pytest.mark.parametrize("stratified", [True, False])
def test_seed_decides(shared_dir: Path, stratified: bool) -> None:
    folder = shared_dir / "data/animals7/valid"
    path = folder / "_annotations.coco.json"
    chosen = [
        [image["id"] for image in split_coco(path, folder, 20, seed, stratified)[0]["images"]]
        for seed in (0, 0, 1)
    ]
    assert chosen[0] == chosen[1] != chosen[2]
    assert len(chosen[0]) == 42


def test_written_files_can_be_read(tmp_path: Path, small_set: tuple[Path, Path]) -> None:
    paths = write_split(*small_set, 50, 0, True, tmp_path / "splits")
    assert [path.name for path in paths] == ["labelled-50.json", "unlabelled-50.json"]
    labelled = read_coco(paths[0], small_set[1])
    unlabelled = read_coco(paths[1], small_set[1], masks=False)
    assert len(labelled.images) == len(unlabelled.images) == 3
    assert all(image.path.is_file() for image in labelled.images + unlabelled.images)
    assert sorted(path.name for path in (tmp_path / "splits").iterdir()) == [
        "labelled-50.json",
        "unlabelled-50.json",
    ]
    assert write_split(*small_set, 2.5, 0, True, tmp_path)[0].name == "labelled-2.5.json"


@pytest.mark.parametrize("percent", [0, -1, 101, float("nan")])
def test_percent_out_of_range(small_set: tuple[Path, Path], percent: float) -> None:
    with pytest.raises(UsageError, match="percent"):
        split_coco(*small_set, percent, 0)


def test_missing_images_and_empty_labels(small_set: tuple[Path, Path]) -> None:
    (small_set[1] / "picture 4.png").unlink()
    with pytest.raises(UsageError, match=r"1 images are missing.*picture 4\.png"):
        split_coco(*small_set, 50, 0)
    write_json(small_set[0], {**coco_content(), "annotations": []})
    with pytest.raises(UsageError, match="no labelled instance"):
        split_coco(*small_set, 50, 0)
