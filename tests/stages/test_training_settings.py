"""A training's precision: in the fingerprint where it is asked for, and in the manifest."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from s4m_pipeline.artifacts.digest_beside import write_digest
from s4m_pipeline.config import StudentSection, TeacherSection, TrainingSection
from s4m_pipeline.engine.stage import Outcome
from s4m_pipeline.models.training import TrainingResult, TrainingSpec
from s4m_pipeline.stages import stage_training, training
from s4m_pipeline.stages.stage_training import train_stage
from s4m_pipeline.stages.train_teacher import TrainTeacher
from s4m_pipeline.stages.training import teacher_extra, training_settings
from s4m_pipeline.workflow.pipeline import status
from tests.workshop import Workshop


@pytest.mark.parametrize("kind", [TeacherSection, StudentSection])
def test_only_a_precision_that_is_asked_for_is_in_the_fingerprint(
    kind: type[TrainingSection],
) -> None:
    default = training_settings(kind(model="mask2former_demo"))
    assert "precision" not in default
    for precision in ("float32", "bfloat16"):
        section = kind(model="mask2former_demo", precision=precision)
        assert training_settings(section) == default | {"precision": precision}
    assert training_settings(kind(model="mask2former_demo", precision="auto")) == default


@pytest.mark.parametrize("kind", [TeacherSection, StudentSection])
def test_the_losses_rule_is_in_the_fingerprint_of_the_models_that_have_them(
    kind: type[TrainingSection],
) -> None:
    """Of trainings made before rules were counted (rule 1), only Mask2Former's are stale."""
    for model, rule in (("mask2former_demo", 2), ("mask_rcnn_lite0", None)):
        assert training_settings(kind(model=model)).get("rule") == rule


@pytest.mark.parametrize("stage", ["train-teacher", "train-student"])
def test_a_training_by_another_rule_of_its_losses_is_stale(
    finished: Workshop, stage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training, "RULE", 3)
    states = {row["stage"]: row for row in status(finished.run())}
    assert states[stage]["state"] == "stale"
    assert (
        "this version of s4m computes the losses of a training differently"
        in (states[stage]["why"])
    )
    assert states["structure"]["state"] == "fresh"


@pytest.mark.parametrize("precision", ["auto", "bfloat16"])
def test_it_reaches_the_training_and_the_manifest_tells_what_was_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, precision: str
) -> None:
    seen: list[str] = []

    def train(spec: TrainingSpec) -> TrainingResult:
        seen.append(spec.precision)
        for name in ("checkpoint.pth", "log.jsonl"):
            (tmp_path / name).write_text("")
        return TrainingResult(tmp_path / "checkpoint.pth", spec.iterations, "bfloat16")

    monkeypatch.setattr(stage_training, "train", train)
    monkeypatch.setattr(stage_training, "bad_images", lambda *_: [])
    monkeypatch.setattr(stage_training, "require_instances", lambda *_: None)
    labelled = SimpleNamespace(
        images=[], categories=[], instance_count=0, without=lambda ids: labelled
    )
    run: Any = SimpleNamespace(
        config=SimpleNamespace(
            seed=0,
            data=SimpleNamespace(
                labelled=SimpleNamespace(images="a", annotations="b"), validation=None
            ),
        ),
        device="cpu",
        images=SimpleNamespace(labelled=labelled),
        reporter=SimpleNamespace(progress=lambda *_: _Advance()),
    )
    section = TeacherSection(model="mask2former_demo", precision=precision)
    outcome = train_stage(run, TrainTeacher(), tmp_path, section, None, teacher_extra(section))
    assert seen == [precision]
    assert outcome.metrics["precision"] == "bfloat16"


class _Advance:
    """A progress bar that shows nothing."""

    def __enter__(self) -> Any:
        return lambda *_: None

    def __exit__(self, *_: object) -> None:
        return None


def test_a_checkpoint_that_is_passed_over_is_told(
    finished: Workshop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, folder = finished.run(), tmp_path / "training"
    work = folder / "mmengine"
    work.mkdir(parents=True)
    for name in ("iter_5.pth", "iter_10.pth"):
        torch.save({"a": torch.zeros(100)}, work / name)
        write_digest(work / name)
    (work / "iter_10.pth").write_bytes(bytes(1000))
    warnings: list[str] = []
    monkeypatch.setattr(run.reporter, "warn", warnings.append)
    monkeypatch.setattr(stage_training, "train", lambda spec: spec)
    monkeypatch.setattr(stage_training, "training_outcome", lambda *_: Outcome())
    extra = teacher_extra(run.config.teacher)
    train_stage(run, TrainTeacher(), folder, run.config.teacher, None, extra)
    (warning,) = warnings
    assert str(work / "iter_10.pth") in warning
    assert "going on from iteration 5" in warning
