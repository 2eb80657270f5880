"""Stage ``train-student``: labelled and pseudo-labelled images in each batch, and distillation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
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
from s4m_pipeline.stages.legs import leg_of, refresh_numbers
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
    """The student; its averaged weights (EMA) are what is evaluated.

    With a ``refresh``, it is the training up to there (`s4m_pipeline.stages.legs`).
    """

    name: ClassVar[str] = "train-student"

    @classmethod
    def of_round(cls, config: RunConfig, number: int) -> Sequence[Stage]:
        """The legs up to each refresh, and the last one."""
        legs = [cls(round=number, refresh=refresh) for refresh in refresh_numbers(config)]
        return [*legs, cls(round=number)]

    def settings(self, config: RunConfig) -> dict[str, Any]:
        """The student's section, its model config's content, the seed, and where a leg ends.

        When there are refreshes is no setting by itself: it says where legs end.
        """
        student = training_settings(config.student)
        for name in ("refresh", "burn_in"):
            del student[name]
        student["ignore_score"] = StudentLosses.of(config.student).ignore_score
        student["start"] = "teacher" if starts_from_teacher(config) else "model"
        until = leg_of(config, self.refresh).until
        ends = {} if until is None else {"ends_at": until}
        return {"seed": config.seed, "student": student, **ends}

    def sources(self, run: Run) -> dict[str, str]:
        """The image sets, and the weights that the first leg starts from."""
        goes_on = leg_of(run.config, self.refresh).before is not None
        return {
            "labelled": run.images.labelled_digest(),
            "unlabelled": run.images.unlabelled_digest(),
            **({} if goes_on else weights_source(run.config.student, run)),
            **choosing_source(run.config.student, run),
        }

    def upstream(self, config: RunConfig) -> dict[str, Stage]:
        """Refined labels; structural targets and the teacher where they are used.

        After a refresh, also the comparison that says whose labels are taken, and the leg before.
        """
        leg = leg_of(config, self.refresh)
        upstream = {"refined": stage_named("refine", self.round, refresh=leg.labels)}
        if leg.labels:
            upstream["compared"] = stage_named("compare-labels", self.round, refresh=leg.labels)
        if config.student.structure_weight > 0:
            upstream["structure"] = stage_named("structure")
        if leg.before is not None:
            upstream["before"] = replace(self, refresh=leg.before)
        elif starts_from_teacher(config):
            upstream["teacher"] = training_of_round(self.round - 1)
        return upstream

    def check(self, run: Run) -> None:
        """Refuse wrong settings and image sets that cannot be used."""
        section = run.config.student
        check_training(section, run, has_start=starts_from_teacher(run.config))
        if section.refresh and not section.refreshes:
            run.reporter.warn_once(
                f"student.refresh: there is no refresh, the first would be at iteration "
                f"{section.burn_in or section.refresh} of {section.iterations}"
            )
        if section.burn_in and not section.refresh:
            run.reporter.warn_once(
                f"student.burn_in is {section.burn_in}, but student.refresh is 0: labels are not "
                "made anew"
            )
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
        goes_on = leg_of(run.config, self.refresh).before is not None
        if not goes_on and not starts_from_teacher(run.config):
            check_weights(self, section, run)

    def plan(self, run: Run) -> Plan:
        """Iterations and checkpoints."""
        images = len(run.images.labelled.images) + len(run.images.unlabelled.images)
        leg, section = leg_of(run.config, self.refresh), run.config.student
        steps = (leg.until or section.iterations) - leg.start
        checkpoints = (4 if section.keep == "last" else 6) + (0 if leg.until is None else 4)
        return Plan(images=images, disk_bytes=checkpoints * CHECKPOINT_BYTES, steps=steps)

    def progress(self, run: Run) -> str:
        """Iterations done of all."""
        end = leg_of(run.config, self.refresh).until or run.config.student.iterations
        return iterations_done(run.folder(self), end)

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
