"""What is told of weights to start from, and of what there is to evaluate."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from s4m_pipeline.config import StudentSection, TeacherSection, TrainingSection
from s4m_pipeline.config_file import load_config
from s4m_pipeline.engine.run import Run
from s4m_pipeline.errors import UsageError
from s4m_pipeline.stages.evaluate import Evaluate
from s4m_pipeline.stages.train_student import TrainStudent
from s4m_pipeline.stages.training import check_training

RUN: Any = SimpleNamespace()
"""Refusals come before anything of the run is read."""


@pytest.mark.parametrize(
    ("section", "named", "other"),
    [
        (TeacherSection(model="mask2former_r50"), "teacher.weights", "student.weights"),
        (StudentSection(model="mask2former_r50"), "student.weights", "teacher.weights"),
    ],
)
def test_only_the_section_without_weights_is_named(
    section: TrainingSection, named: str, other: str
) -> None:
    """A student that is given weights, too, does not start from its teacher."""
    with pytest.raises(UsageError) as refused:
        check_training(section, RUN)
    assert named in str(refused.value)
    assert other not in str(refused.value)


def _run(folder: Path, *overrides: str) -> Run:
    path = folder / "run.yaml"
    path.write_text("work_dir: work\ndata: {labelled: {images: a, annotations: b.json}}\n")
    return Run(load_config(path, overrides))


def test_a_student_of_another_model_needs_weights_of_its_own(tmp_path: Path) -> None:
    run = _run(tmp_path, "teacher.model=mask2former_demo", "student.model=mask2former_r50")
    with pytest.raises(UsageError, match=r"student\.weights"):
        TrainStudent().check(run)


@pytest.mark.parametrize("of", ["nope.pth", "studnet", "student-1"])
def test_all_that_can_be_evaluated_is_named(tmp_path: Path, of: str) -> None:
    run = _run(tmp_path, "data.validation={images: a, annotations: b.json}")
    (tmp_path / "b.json").write_text('{"images": [], "annotations": [], "categories": []}')
    with pytest.raises(UsageError) as refused:
        Evaluate(of).sources(run)
    message = str(refused.value)
    assert len(message.splitlines()) <= 3
    for word in (f"'{of}'", "student-2", "all", "teacher", "checkpoint", "folder"):
        assert word in message


def test_a_folder_without_a_checkpoint_is_told_as_such(tmp_path: Path) -> None:
    run = _run(tmp_path, "data.validation={images: a, annotations: b.json}")
    (tmp_path / "b.json").write_text('{"images": [], "annotations": [], "categories": []}')
    with pytest.raises(UsageError, match=r"holds no checkpoint\.pth"):
        Evaluate(str(tmp_path)).sources(run)
