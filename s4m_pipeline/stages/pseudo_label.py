"""Stage ``pseudo-label``: the teacher over the unlabelled images, streamed to Parquet.

Everything above a low score is kept with its class distribution and soft mask, so that thresholds
can be moved and masks fused later without the teacher. Prompt points are drawn here, from the
softmax of the mask logits (docs/method.md, "Pseudo-label refinement").
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from s4m_pipeline.config import RunConfig
from s4m_pipeline.engine.image_sources import UNLABELLED
from s4m_pipeline.engine.run import Run
from s4m_pipeline.engine.sharded import ShardedStage
from s4m_pipeline.engine.stage import Outcome, Plan, Stage
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

WARN_OF_NO_LABEL = "s4m_pipeline.labels.none_left:warn_of_no_label"


@dataclass(frozen=True)
class PseudoLabel(ShardedStage):
    """The teacher's predictions on the unlabelled images.

    From the second round on the teacher is the student of the round before, and at a refresh it is
    the student as it stands. Where there are several teachers or views, what they see becomes one
    table (`models.labeller`).
    """

    name: ClassVar[str] = "pseudo-label"
    images = UNLABELLED
    worker = PREDICTION_WORKER

    @classmethod
    def of_round(cls, config: RunConfig, number: int) -> Sequence[Stage]:
        """The round's first labels, and those of its refreshes."""
        return [cls(round=number, refresh=refresh) for refresh in (0, *refresh_numbers(config))]

    def settings(self, config: RunConfig) -> dict[str, Any]:
        """What decides which predictions are stored; ``score`` and ``min_area`` act later."""
        return prediction_settings(config)

    def sources(self, run: Run) -> dict[str, str]:
        """The images, and further teachers that are given by path."""
        return {**super().sources(run), **teacher_sources(run)}

    def upstream(self, config: RunConfig) -> dict[str, Stage]:
        """The teacher (the run's, a student, or the student at a refresh), and the run's others."""
        own = labeller(self.round, self.refresh)
        return {"teacher": own, **teacher_stages(config, self.round)}

    def check(self, run: Run) -> None:
        """Refuse images that cannot be used, and teachers that cannot label together."""
        super().check(run)
        check_teachers(run, self)

    def plan(self, run: Run) -> Plan:
        """Images, shards, disk, and how often networks look at an image."""
        plan = super().plan(run)
        plan.passes = passes_of(run.config, self.round)
        return plan

    def bytes_per_image(self, run: Run) -> int:
        """About 20 KB."""
        return PREDICTION_BYTES

    def make(self, run: Run, folder: Path) -> Outcome:
        """Predict, and warn where nothing of it becomes a label."""
        outcome = super().make(run, folder)
        load(WARN_OF_NO_LABEL)(run, folder, outcome.counts, self)
        return outcome

    def task(self, run: Run) -> PredictionTask:
        """The teachers' checkpoints, the images and the settings."""
        return PredictionTask.of(run, self)
