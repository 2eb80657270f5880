"""Stage ``train-student``: labelled and pseudo-labelled images in each batch, and distillation."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

from s4m_pipeline.config import RunConfig
from s4m_pipeline.errors import S4MError, UsageError
from s4m_pipeline.stages.base import Outcome, Plan, Run, Stage, label_categories
from s4m_pipeline.stages.refine import Refine
from s4m_pipeline.stages.structure import Structure
from s4m_pipeline.stages.train_teacher import TrainTeacher
from s4m_pipeline.stages.training import (
    CHECKPOINT,
    CHECKPOINT_BYTES,
    check_training,
    start_checkpoint,
    train_stage,
    training_settings,
    weights_source,
)


class TrainStudent(Stage):
    """The student; its averaged weights (EMA) are what is evaluated."""

    name: ClassVar[str] = "train-student"

    def settings(self, config: RunConfig) -> dict[str, Any]:
        """The student's section, its model's content and the seed."""
        return {"seed": config.seed, "student": training_settings(config.student)}

    def sources(self, run: Run) -> dict[str, str]:
        """Both image sets and start weights."""
        return {
            "labelled": run.images.labelled_digest(),
            "unlabelled": run.images.unlabelled_digest(),
            **weights_source(run.config.student, run),
        }

    def upstream(self, config: RunConfig) -> dict[str, Stage]:
        """Refined labels; structural targets and the teacher where they are used."""
        above: dict[str, Stage] = {"refined": Refine()}
        if config.student.structure_weight > 0:
            above["structure"] = Structure()
        if config.student.start == "teacher":
            above["teacher"] = TrainTeacher()
        return above

    def check(self, run: Run) -> None:
        """Refuse wrong settings and image sets that cannot be used."""
        section = run.config.student
        check_training(section, run)
        if section.batch_size < 2:
            raise UsageError(
                "student.batch_size must be at least 2: labelled and unlabelled images"
            )
        if section.start == "teacher" and section.weights is not None:
            raise UsageError("student.start is 'teacher' and student.weights is set: choose one")
        run.images.load_unlabelled_set()

    def plan(self, run: Run) -> Plan:
        """Iterations and checkpoints."""
        images = len(run.images.labelled.images) + len(run.images.unlabelled.images)
        steps = run.config.student.iterations
        return Plan(images=images, disk_bytes=4 * CHECKPOINT_BYTES, steps=steps)

    def make(self, run: Run, folder: Path) -> Outcome:
        """Train on labelled images and refined labels."""
        section = run.config.student
        refined = run.require(Refine())
        self._check_labels(run, refined)
        learns_structure = section.structure_weight > 0
        structure = run.require(Structure()) if learns_structure else None
        start = start_checkpoint(section)
        if section.start == "teacher":
            start = run.require(TrainTeacher()) / CHECKPOINT
        extra = {
            "unlabelled": self._unlabelled(run, refined, learns_structure),
            "unlabelled_fraction": section.unlabelled_fraction,
            "class_weight": section.class_weight,
            "unlabelled_weight": section.unlabelled_weight,
            "ema": section.ema or None,
            "init_checkpoint": start,
        }
        return train_stage(run, self, folder, section, structure, extra)

    def _unlabelled(self, run: Run, refined: Path, learns_structure: bool) -> dict[str, Any]:
        images = run.images.unlabelled.images
        return {
            "type": "RefinedInstances",
            "artifact": str(refined),
            "images": [(i.id, i.file_name, str(i.path), i.height, i.width) for i in images],
            "categories": label_categories(run.images.labelled.categories),
            "structure": str(refined) if learns_structure else None,
            "branch": "unlabelled",
        }

    def _check_labels(self, run: Run, refined: Path) -> None:
        """Say how many pseudo-labels there are against the labelled rate; refuse none at all."""
        counts = run.store.manifest(Refine.name, refined.name).counts
        labelled = run.images.labelled
        rate = labelled.instance_count / len(labelled.images)
        pseudo = counts["instances"] / max(1, counts["images"])
        if not counts["instances"]:
            raise S4MError(
                "there is not one pseudo-label to learn from: no prediction reaches "
                f"pseudo_label.score {run.config.pseudo_label.score:g}.\n"
                "Train the teacher for longer or lower pseudo_label.score."
            )
        run.reporter.say(
            f"{self.name}: {pseudo:.2f} pseudo-instances an image, {rate:.2f} labelled ones"
        )
        if pseudo < 0.25 * rate or pseudo > 4 * rate:
            run.reporter.warn(
                f"{pseudo:.2f} pseudo-instances an image is far from the labelled {rate:.2f}; "
                "look at them with 's4m report' and move pseudo_label.score"
            )
