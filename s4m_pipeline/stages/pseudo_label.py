"""Stage ``pseudo-label``: the teacher over the unlabelled images, streamed to Parquet.

Everything above a low score is kept with its class distribution and soft mask, so that thresholds
can be moved and masks fused later without the teacher. Prompt points are drawn here, from the
softmax of the mask logits (docs/method.md, "Pseudo-label refinement").
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from s4m_pipeline.artifacts.training_files import CHECKPOINT
from s4m_pipeline.config import RunConfig, result_settings
from s4m_pipeline.data.image_set import ImageRecord
from s4m_pipeline.engine.image_sources import UNLABELLED
from s4m_pipeline.engine.registry import training_of_round
from s4m_pipeline.engine.run import Run
from s4m_pipeline.engine.sharded import ShardedStage
from s4m_pipeline.engine.stage import Stage
from s4m_pipeline.stages.prediction_settings import PredictionSettings

PREDICTION_WORKER = "s4m_pipeline.stages.prediction_worker:PredictionWorker"
"""What predicts a stage's images; its argument is a `PredictionTask`."""
BYTES_PER_IMAGE = 20_000
"""Of the predictions of an image: some ten instances of 2 KB."""


@dataclass(frozen=True)
class PseudoLabel(ShardedStage):
    """The teacher's predictions on the unlabelled images.

    From the second round on the teacher is the student of the round before.
    """

    name: ClassVar[str] = "pseudo-label"
    images = UNLABELLED
    worker = PREDICTION_WORKER

    def settings(self, config: RunConfig) -> dict[str, Any]:
        """What shapes the stored predictions; ``score`` and ``min_area`` act later."""
        return prediction_settings(config)

    def upstream(self, config: RunConfig) -> dict[str, Stage]:
        """The teacher: this run's, or the student of the round before."""
        return {"teacher": training_of_round(self.round - 1)}

    def bytes_per_image(self, run: Run) -> int:
        """About 20 KB."""
        return BYTES_PER_IMAGE

    def argument(self, run: Run) -> PredictionTask:
        """The teacher's checkpoint, the images and the settings."""
        return PredictionTask.of(run, self, training_of_round(self.round - 1))


def prediction_settings(config: RunConfig) -> dict[str, Any]:
    """The settings that shape stored predictions, for a fingerprint."""
    section = result_settings(config.pseudo_label)
    return {"seed": config.seed, "min_score": section["min_score"], "points": section["points"]}


@dataclass(frozen=True, slots=True)
class PredictionTask:
    """What a worker predicts, and with what.

    Attributes:
        checkpoint: The model's file.
        device: Where it runs.
        records: The images by id.
        settings: What is stored.
        batch_size: Images the network takes at a time.
    """

    checkpoint: Path
    device: str
    records: Mapping[int, ImageRecord]
    settings: PredictionSettings
    batch_size: int

    @classmethod
    def of(cls, run: Run, stage: ShardedStage, model: Stage) -> PredictionTask:
        """A stage's images, to be predicted by the model of a training."""
        return cls(
            checkpoint=run.require(model) / CHECKPOINT,
            device=run.device,
            records={record.id: record for record in stage.records(run)},
            settings=PredictionSettings.of(run.config),
            batch_size=run.config.pseudo_label.batch_size,
        )
