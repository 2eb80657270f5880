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
from s4m_pipeline.engine.stage import Outcome, Stage
from s4m_pipeline.labels.threshold_settings import (
    threshold_settings,
    threshold_sources,
    threshold_upstream,
)
from s4m_pipeline.late import load
from s4m_pipeline.stages.legs import refresh_numbers
from s4m_pipeline.stages.prediction_settings import PREDICTION_BYTES, prediction_settings
from s4m_pipeline.stages.prediction_task import PREDICTION_WORKER, PredictionTask
from s4m_pipeline.stages.trainings import labeller

QUALITY = "s4m_pipeline.stages.calibration.held_out_quality:held_out_quality"


@dataclass(frozen=True)
class HeldOut(ShardedStage):
    """Label quality of the model that labels in a round, or at a refresh: at first the teacher."""

    name: ClassVar[str] = "held-out"
    images = VALIDATION
    worker = PREDICTION_WORKER

    @classmethod
    def of_round(cls, config: RunConfig, number: int) -> Sequence[Stage]:
        """Where labels are made anew, of each model that labels; it is also between rounds."""
        if config.data.validation is None or not config.student.refreshes:
            return []
        return [cls(round=number, refresh=refresh) for refresh in (0, *refresh_numbers(config))]

    @property
    def command(self) -> str:
        """Of several rounds, round r measures its student, the model that labels in round r + 1."""
        if self.round == 1:
            return super().command
        return f"run --rounds {max(2, self.round - 1)}"

    def settings(self, config: RunConfig) -> dict[str, Any]:
        """What decides which predictions are stored, and which become labels."""
        thresholds = threshold_settings(config)
        if config.pseudo_label.thresholds != "fixed":
            thresholds["floor"] = config.refine.min_score
        return {
            **prediction_settings(config),
            **thresholds,
            "min_area": config.pseudo_label.min_area,
        }

    def sources(self, run: Run) -> dict[str, str]:
        """The validation images, and the files that the thresholds depend on."""
        return {**super().sources(run), **threshold_sources(run)}

    def upstream(self, config: RunConfig) -> dict[str, Stage]:
        """The model, and the artifacts that the thresholds depend on."""
        return {"teacher": labeller(self.round, self.refresh), **threshold_upstream(config)}

    def bytes_per_image(self, run: Run) -> int:
        """About 20 KB."""
        return PREDICTION_BYTES

    def task(self, run: Run) -> PredictionTask:
        """The model's checkpoint, the images and the settings."""
        return PredictionTask.of(run, self, labeller(self.round, self.refresh))

    def make(self, run: Run, folder: Path) -> Outcome:
        """Predict, then compare the labels with the truth."""
        outcome = super().make(run, folder)
        outcome.metrics |= load(QUALITY)(run, folder, outcome.counts["images"])
        return outcome
