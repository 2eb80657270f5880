"""The student's section reaches its training."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from s4m_pipeline.config_file import load_config
from s4m_pipeline.configs.losses import StudentLosses
from s4m_pipeline.engine.stage import Outcome
from s4m_pipeline.errors import UsageError
from s4m_pipeline.stages import student_training, train_student
from s4m_pipeline.stages.train_student import TrainStudent

CHANGES = {
    "labelled_batch": 3,
    "unlabelled_batch": 5,
    "repeat_threshold": 10.0,
    "paste": "dynamic",
    "paste_min_area": 0.01,
    "class_temperature": 2.5,
    "quality_weight": True,
    "ignore_score": 0.4,
    "class_weight": 0.3,
    "unlabelled_weight": 1.5,
    "ema": 0.99,
}


def run_of(folder: Path, **student: Any) -> Any:
    content = {
        "work_dir": "work",
        "data": {"labelled": {"images": "a", "annotations": "a.json"}},
        "student": student,
    }
    (folder / "run.yaml").write_text(yaml.safe_dump(content))
    empty = SimpleNamespace(images=[], categories=[])
    return SimpleNamespace(
        config=load_config(folder / "run.yaml"),
        require=lambda stage: folder / stage.name,
        images=SimpleNamespace(unlabelled=empty, labelled=empty, load_unlabelled_set=lambda: None),
    )


def training_of(run: Any, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the stage hands to the training beside what teacher and student share, losses apart."""
    seen: dict[str, Any] = {}
    monkeypatch.setattr(student_training, "_look_at_labels", lambda *_: None)
    monkeypatch.setattr(student_training, "file_entry", lambda folder, path: None)

    def train(*args: Any) -> Outcome:
        seen.update(args[-1])
        return Outcome([], {}, {})

    monkeypatch.setattr(student_training, "train_stage", train)
    TrainStudent().make(run, run.config.work_dir)
    return {**seen, **asdict(seen["losses"])}


def test_all_settings_reach_the_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = training_of(run_of(tmp_path, **CHANGES), monkeypatch)
    assert {name: seen[name] for name in CHANGES} == CHANGES


def test_defaults_are_those_of_the_training_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from s4m_pipeline.models.training_spec import TrainingSpec

    seen = training_of(run_of(tmp_path), monkeypatch)
    fields = TrainingSpec.__dataclass_fields__ | StudentLosses.__dataclass_fields__
    assert seen.keys() <= fields.keys()
    for name in (
        "repeat_threshold",
        "paste",
        "paste_min_area",
        "class_temperature",
        "quality_weight",
    ):
        assert seen[name] == fields[name].default


def test_ignore_regions_are_automatic_for_mask2former_alone(tmp_path: Path) -> None:
    def found(**student: Any) -> Any:
        config = run_of(tmp_path, **student).config
        return TrainStudent().settings(config)["student"]["ignore_score"]

    assert found() == found(ignore_score=0.3) == 0.3
    assert found(ignore_score=None) is None
    assert found(model="mask_rcnn_lite0") is None
    own = tmp_path / "own.py"
    own.write_text("_base_ = ['mmdet::mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py']")
    assert found(model=str(own)) is None


def test_paste_needs_two_unlabelled_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train_student, "check_training", lambda *_, **__: None)
    with pytest.raises(UsageError, match=r"student\.paste needs two unlabelled images"):
        TrainStudent().check(run_of(tmp_path, paste="static", unlabelled_batch=1))
    TrainStudent().check(run_of(tmp_path, paste="off", unlabelled_batch=1))
    TrainStudent().check(run_of(tmp_path, paste="static", unlabelled_batch=2))


@pytest.mark.parametrize("setting", [{"quality_weight": True}, {"ignore_score": 0.3}])
def test_settings_of_mask2former_are_refused_for_others_before_any_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, setting: dict[str, object]
) -> None:
    monkeypatch.setattr(train_student, "check_training", lambda *_, **__: None)
    with pytest.raises(UsageError, match="needs a Mask2Former model"):
        TrainStudent().check(run_of(tmp_path, model="mask_rcnn_lite0", **setting))
    TrainStudent().check(run_of(tmp_path, model="mask2former_lite0", **setting))
