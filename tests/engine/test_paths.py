"""Tests of the look for a run's files before anything is read."""

from pathlib import Path

import pytest

from s4m_pipeline.config import RunConfig
from s4m_pipeline.engine.paths import check_paths
from s4m_pipeline.errors import UsageError


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
        f"data.labelled.annotations does not exist: {tmp_path / 'labelled.json'}",
        "Nor do 2 more: segmenter.checkpoint, student.weights",
    ]


def test_one_missing_path_is_named_with_its_setting(tmp_path):
    config = _config(tmp_path)
    (tmp_path / "start.pth").unlink()
    with pytest.raises(UsageError) as refused:
        check_paths(config)
    expected = f"student.weights does not exist: {tmp_path / 'start.pth'}"
    assert str(refused.value) == expected


def test_a_file_in_place_of_a_folder_is_named_with_its_setting(tmp_path):
    config = _config(tmp_path)
    config.data.labelled.images = tmp_path / "sam.pt"
    with pytest.raises(UsageError) as refused:
        check_paths(config)
    expected = f"data.labelled.images is a file, not a folder: {tmp_path / 'sam.pt'}"
    assert str(refused.value) == expected


def test_ids_and_random_weights_are_no_paths(tmp_path):
    config = _config(tmp_path)
    config.segmenter.checkpoint = "facebook/sam2.1-hiera-large"
    config.teacher.weights = "random"
    check_paths(config)
