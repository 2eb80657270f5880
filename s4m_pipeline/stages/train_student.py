"""Stage ``train-student``: labelled and pseudo-labelled images in each batch, and distillation."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from s4m_pipeline.artifacts.training_files import PAGE
from s4m_pipeline.config import RunConfig, starts_from_teacher
from s4m_pipeline.configs import may_have
from s4m_pipeline.configs.losses import MASK2FORMER_HEAD, StudentLosses
from s4m_pipeline.engine.registry import stage_named
from s4m_pipeline.engine.run import Run
from s4m_pipeline.engine.stage import Outcome, Plan, Stage
from s4m_pipeline.errors import UsageError
from s4m_pipeline.late import load
from s4m_pipeline.stages.training import (
    CHECKPOINT_BYTES,
    check_training,
    check_weights,
    choosing_source,
    iterations_done,
    training_settings,
    weights_source,
)
from s4m_pipeline.stages.trainings import training_of_round

TRAIN = "s4m_pipeline.stages.student_training:train_student"
WRITE_PAGE = "s4m_pipeline.stages.student_training:write_page"


@dataclass(frozen=True)
class TrainStudent(Stage):
    """The student; its averaged weights (EMA) are what is evaluated."""

    name: ClassVar[str] = "train-student"

    def settings(self, config: RunConfig) -> dict[str, Any]:
        """The student's section, its model config's content and the seed."""
        student = training_settings(config.student)
        student["ignore_score"] = StudentLosses.of(config.student).ignore_score
        student["start"] = "teacher" if starts_from_teacher(config) else "model"
        return {"seed": config.seed, "student": student}

    def sources(self, run: Run) -> dict[str, str]:
        """The image sets, and the weights to start from."""
        return {
            "labelled": run.images.labelled_digest(),
            "unlabelled": run.images.unlabelled_digest(),
            **weights_source(run.config.student, run),
            **choosing_source(run.config.student, run),
        }

    def upstream(self, config: RunConfig) -> dict[str, Stage]:
        """Refined labels; structural targets and the teacher where they are used."""
        upstream = {"refined": stage_named("refine", self.round)}
        if config.student.structure_weight > 0:
            upstream["structure"] = stage_named("structure")
        if starts_from_teacher(config):
            upstream["teacher"] = training_of_round(self.round - 1)
        return upstream

    def check(self, run: Run) -> None:
        """Refuse wrong settings and image sets that cannot be used."""
        section = run.config.student
        check_training(section, run, has_start=starts_from_teacher(run.config))
        wanted = StudentLosses.of(section).for_mask2former()
        if wanted and not may_have(section.model, MASK2FORMER_HEAD):
            raise UsageError(
                f"student.{wanted[0]} needs a Mask2Former model; '{section.model}' is not one"
            )
        if section.paste != "off" and section.unlabelled_batch < 2:
            raise UsageError(
                "student.paste needs two unlabelled images in each batch, to trade instances;\n"
                "raise student.unlabelled_batch"
            )
        run.images.load_unlabelled_set()
        if not starts_from_teacher(run.config):
            check_weights(self, section, run)

    def plan(self, run: Run) -> Plan:
        """Iterations and checkpoints."""
        images = len(run.images.labelled.images) + len(run.images.unlabelled.images)
        steps = run.config.student.iterations
        checkpoints = 4 if run.config.student.keep == "last" else 6
        return Plan(images=images, disk_bytes=checkpoints * CHECKPOINT_BYTES, steps=steps)

    def progress(self, run: Run) -> str:
        """Iterations done of all."""
        return iterations_done(run.folder(self), run.config.student.iterations)

    def make(self, run: Run, folder: Path) -> Outcome:
        """Train on labelled images and refined labels."""
        outcome: Outcome = load(TRAIN)(run, self, folder)
        return outcome

    def rewrite(self, run: Run, folder: Path, path: str) -> bool:
        """The page about the labels can be made of them again."""
        if path != PAGE:
            return False
        load(WRITE_PAGE)(run, self, folder)
        return True
