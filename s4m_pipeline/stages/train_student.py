"""Stage ``train-student``: labelled and pseudo-labelled images in each batch, and distillation."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

from s4m_pipeline.artifacts.manifest import file_entry
from s4m_pipeline.config import RunConfig, starts_from_teacher
from s4m_pipeline.configs import may_have
from s4m_pipeline.configs.losses import MASK2FORMER_HEAD, StudentLosses
from s4m_pipeline.engine.registry import OfRound, model_of_round
from s4m_pipeline.engine.run import Run
from s4m_pipeline.engine.stage import Outcome, Plan, Stage, label_categories
from s4m_pipeline.errors import UsageError
from s4m_pipeline.labels.page import write_label_page
from s4m_pipeline.labels.warnings import check_labels
from s4m_pipeline.stages.refine.stage import Refine
from s4m_pipeline.stages.structure import Structure
from s4m_pipeline.stages.training import (
    CHECKPOINT,
    CHECKPOINT_BYTES,
    check_training,
    check_weights,
    start_checkpoint,
    train_stage,
    training_settings,
    weights_source,
)
from s4m_pipeline.training_data.batches import unlabelled_per_batch

PAGE = "labels.html"


class TrainStudent(OfRound):
    """The student; its averaged weights (EMA) are what is evaluated."""

    name: ClassVar[str] = "train-student"

    def settings(self, config: RunConfig) -> dict[str, Any]:
        """The student's section, its model's content and the seed."""
        student = training_settings(config.student)
        student["ignore_score"] = StudentLosses.of(config.student).ignore_score
        student["start"] = "teacher" if starts_from_teacher(config) else "model"
        return {"seed": config.seed, "student": student}

    def sources(self, run: Run) -> dict[str, str]:
        """Both image sets and start weights."""
        return {
            "labelled": run.images.labelled_digest(),
            "unlabelled": run.images.unlabelled_digest(),
            **weights_source(run.config.student, run),
        }

    def upstream(self, config: RunConfig) -> dict[str, Stage]:
        """Refined labels; structural targets and the teacher where they are used."""
        above: dict[str, Stage] = {"refined": Refine(self.round)}
        if config.student.structure_weight > 0:
            above["structure"] = Structure()
        if starts_from_teacher(config):
            above["teacher"] = model_of_round(self.round - 1)
        return above

    def check(self, run: Run) -> None:
        """Refuse wrong settings and image sets that cannot be used."""
        section = run.config.student
        check_training(section, run, has_start=starts_from_teacher(run.config))
        if section.batch_size < 2:
            raise UsageError(
                "student.batch_size must be at least 2: labelled and unlabelled images"
            )
        asked = StudentLosses.of(section).for_mask2former()
        if asked and not may_have(section.model, MASK2FORMER_HEAD):
            raise UsageError(
                f"student.{asked[0]} needs a Mask2Former model; '{section.model}' is none"
            )
        share = section.unlabelled_fraction
        if section.paste != "off" and unlabelled_per_batch(section.batch_size, share) < 2:
            raise UsageError(
                "student.paste needs two unlabelled images in each batch that trade instances;\n"
                "raise student.batch_size or student.unlabelled_fraction"
            )
        run.images.load_unlabelled_set()
        if not starts_from_teacher(run.config):
            check_weights(self, section, run)

    def plan(self, run: Run) -> Plan:
        """Iterations and checkpoints."""
        images = len(run.images.labelled.images) + len(run.images.unlabelled.images)
        steps = run.config.student.iterations
        return Plan(images=images, disk_bytes=4 * CHECKPOINT_BYTES, steps=steps)

    def make(self, run: Run, folder: Path) -> Outcome:
        """Train on labelled images and refined labels."""
        section = run.config.student
        refined = run.require(Refine(self.round))
        page = self._look_at_labels(run, refined, folder)
        learns_structure = section.structure_weight > 0
        structure = run.require(Structure()) if learns_structure else None
        start = start_checkpoint(section)
        if starts_from_teacher(run.config):
            start = run.require(model_of_round(self.round - 1)) / CHECKPOINT
        extra = {
            "unlabelled": self._unlabelled(run, refined, learns_structure),
            "unlabelled_fraction": section.unlabelled_fraction,
            "losses": StudentLosses.of(section),
            "paste": section.paste,
            "paste_min_area": section.paste_min_area,
            "ema": section.ema or None,
            "init_checkpoint": start,
        }
        made = train_stage(run, self, folder, section, structure, extra)
        made.files.append(file_entry(folder, page))
        return made

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

    def _look_at_labels(self, run: Run, refined: Path, folder: Path) -> Path:
        """Say what the labels are like, refuse none at all, and make the page that shows them."""
        check_labels(run, refined, self.name)
        page = folder / PAGE
        write_label_page(run, refined, page)
        run.reporter.say(f"{self.name}: {page} shows the labels")
        return page
