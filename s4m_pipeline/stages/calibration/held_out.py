"""Stage ``held-out``: how good the labels of a round's model are, on the validation images.

The model predicts the validation images as it would predict unlabelled ones. The predictions above
the run's thresholds are compared with the true masks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from s4m_pipeline.config import RunConfig
from s4m_pipeline.engine.image_sources import VALIDATION
from s4m_pipeline.engine.run import Run
from s4m_pipeline.engine.sharded import ShardedStage
from s4m_pipeline.engine.stage import Outcome, Plan, Stage
from s4m_pipeline.labels.threshold_settings import (
    threshold_settings,
    threshold_sources,
    threshold_upstream,
)
from s4m_pipeline.late import load
from s4m_pipeline.stages.legs import refresh_numbers
from s4m_pipeline.stages.prediction_settings import PREDICTION_BYTES, prediction_settings
from s4m_pipeline.stages.prediction_task import PREDICTION_WORKER, PredictionTask
from s4m_pipeline.stages.teachers import (
    check_teachers,
    passes_of,
    teacher_sources,
    teacher_stages,
)
from s4m_pipeline.stages.trainings import labeller

QUALITY = "s4m_pipeline.stages.calibration.held_out_quality:held_out_quality"


@dataclass(frozen=True)
class HeldOut(ShardedStage):
    """Label quality of what labels in a round, or at a refresh: at first of the teacher.

    Attributes:
        alone: Whether the round's own model labels by itself and in one view, whatever the run's
            views and teachers are.
    """

    name: ClassVar[str] = "held-out"
    images = VALIDATION
    worker = PREDICTION_WORKER

    alone: bool = False

    @property
    def title(self) -> str:
        """Its name, which says whether one view alone is meant."""
        return f"{super().title} one view" if self.alone else super().title

    @classmethod
    def of_round(cls, config: RunConfig, number: int) -> Sequence[Stage]:
        """Where labels are made anew, of each model that labels; it is also between rounds."""
        if config.data.validation is None or not config.student.refreshes:
            return []
        return [cls(round=number, refresh=refresh) for refresh in (0, *refresh_numbers(config))]

    @property
    def command(self) -> str:
        """Of several rounds, round r measures its student, the model that labels in round r + 1.

        That of one view is made to be compared.
        """
        if self.alone:
            return f"label-quality --views --round {self.round}"
        if self.round == 1 or self.refresh:  # the student at a refresh labels in its own round
            return super().command
        return f"run --rounds {max(2, self.round - 1)}"

    def settings(self, config: RunConfig) -> dict[str, Any]:
        """What decides which predictions are stored, and which become labels."""
        thresholds = threshold_settings(config)
        if config.pseudo_label.thresholds != "fixed":
            thresholds["floor"] = config.refine.min_score
        return {
            **prediction_settings(config, self.alone),
            **thresholds,
            "min_area": config.pseudo_label.min_area,
        }

    def sources(self, run: Run) -> dict[str, str]:
        """The validation images, and the files that thresholds and teachers depend on."""
        teachers = {} if self.alone else teacher_sources(run)
        return {**super().sources(run), **teachers, **threshold_sources(run)}

    def upstream(self, config: RunConfig) -> dict[str, Stage]:
        """The models, and the artifacts that the thresholds depend on."""
        teachers = {} if self.alone else teacher_stages(config, self.round)
        return {
            "teacher": labeller(self.round, self.refresh),
            **teachers,
            **threshold_upstream(config),
        }

    def check(self, run: Run) -> None:
        """Refuse images that cannot be used, and teachers that cannot label together."""
        super().check(run)
        if not self.alone:
            check_teachers(run, self)

    def plan(self, run: Run) -> Plan:
        """Images, shards, disk, and how often networks look at an image."""
        plan = super().plan(run)
        plan.passes = 1 if self.alone else passes_of(run.config, self.round)
        return plan

    def bytes_per_image(self, run: Run) -> int:
        """About 20 KB."""
        return PREDICTION_BYTES

    def task(self, run: Run) -> PredictionTask:
        """The models' checkpoints, the images and the settings."""
        return PredictionTask.of(run, self, self.alone)

    def make(self, run: Run, folder: Path) -> Outcome:
        """Predict, then compare the labels with the truth."""
        outcome = super().make(run, folder)
        outcome.metrics |= load(QUALITY)(run, folder, outcome.counts["images"])
        return outcome
