"""Stage ``train-teacher``: a network of MMDetection learns from the labelled images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from s4m_pipeline.config import RunConfig
from s4m_pipeline.engine.run import Run
from s4m_pipeline.engine.stage import Outcome, Plan, Stage
from s4m_pipeline.late import load
from s4m_pipeline.stages.training import (
    CHECKPOINT_BYTES,
    check_training,
    check_weights,
    choosing_source,
    iterations_done,
    teacher_extra,
    teacher_upstream,
    training_settings,
    weights_source,
)

TRAIN = "s4m_pipeline.stages.stage_training:train_stage"


@dataclass(frozen=True)
class TrainTeacher(Stage):
    """The teacher, with the structural loss when its weight is above 0."""

    name: ClassVar[str] = "train-teacher"

    @classmethod
    def of_round(cls, config: RunConfig, number: int) -> Sequence[Stage]:
        """Once: a later round's teacher is the student of the round before."""
        return [cls()] if number == 1 else []

    def settings(self, config: RunConfig) -> dict[str, Any]:
        """The teacher's section, its model config's content and the seed."""
        return {"seed": config.seed, "teacher": training_settings(config.teacher)}

    def sources(self, run: Run) -> dict[str, str]:
        """Labelled images, start weights, and the validation images where they choose weights."""
        section = run.config.teacher
        return {
            "labelled": run.images.labelled_digest(),
            **weights_source(section, run),
            **choosing_source(section, run),
        }

    def upstream(self, config: RunConfig) -> dict[str, Stage]:
        """Structural targets, where the teacher learns from them."""
        return teacher_upstream(config)

    def check(self, run: Run) -> None:
        """Refuse wrong settings and image sets that cannot be used."""
        check_training(run.config.teacher, run)
        check_weights(self, run.config.teacher, run)

    def plan(self, run: Run) -> Plan:
        """Iterations and checkpoints."""
        images = len(run.images.labelled.images)
        steps = run.config.teacher.iterations
        checkpoints = 2 if run.config.teacher.keep == "last" else 3
        return Plan(images=images, disk_bytes=checkpoints * CHECKPOINT_BYTES, steps=steps)

    def progress(self, run: Run) -> str:
        """Iterations done of all."""
        return iterations_done(run.folder(self), run.config.teacher.iterations)

    def make(self, run: Run, folder: Path) -> Outcome:
        """Train on the labelled images."""
        section = run.config.teacher
        targets = self.upstream(run.config).get("structure")
        structure = None if targets is None else run.require(targets)
        extra = teacher_extra(section)
        outcome: Outcome = load(TRAIN)(run, self, folder, section, structure, extra)
        return outcome
