"""Tests of the look for a run's files before anything is read."""

from pathlib import Path

import pytest

from s4m_pipeline.config import RunConfig
from s4m_pipeline.errors import UsageError
from s4m_pipeline.stages.paths import check_paths


def _config(folder: Path) -> RunConfig:
    for name in ("labelled", "unlabelled"):
        (folder / name).mkdir()
    for name in ("labelled.json", "sam.pt", "start.pth"):
        (folder / name).touch()
    return RunConfig.model_validate(
        {
            "work_dir": folder / "work",
            "data": {
                "labelled": {
                    "images": folder / "labelled",
                    "annotations": folder / "labelled.json",
                },
                "unlabelled": {"images": folder / "unlabelled"},
            },
            "segmenter": {"checkpoint": str(folder / "sam.pt")},
            "student": {"weights": str(folder / "start.pth")},
        }
    )


def test_all_missing_paths_are_named_at_once(tmp_path):
    config = _config(tmp_path)
    check_paths(config)
    for name in ("labelled.json", "sam.pt", "start.pth"):
        (tmp_path / name).unlink()
    with pytest.raises(UsageError) as refused:
        check_paths(config)
    assert str(refused.value).splitlines() == [
        "3 paths are missing:",
        f"  data.labelled.annotations: {tmp_path / 'labelled.json'}",
        f"  segmenter.checkpoint: {tmp_path / 'sam.pt'}",
        f"  student.weights: {tmp_path / 'start.pth'}",
    ]


def test_ids_and_random_weights_are_no_paths_and_one_missing_is_left_to_its_user(tmp_path):
    config = _config(tmp_path)
    config.segmenter.checkpoint = "facebook/sam2.1-hiera-large"
    config.teacher.weights = "random"
    (tmp_path / "labelled.json").unlink()
    check_paths(config)
