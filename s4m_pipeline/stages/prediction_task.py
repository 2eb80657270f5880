"""What the worker of ``pseudo-label`` and ``held-out`` needs to know."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from s4m_pipeline.artifacts.training_files import CHECKPOINT
from s4m_pipeline.data.image_set import ImageRecord
from s4m_pipeline.engine.run import Run
from s4m_pipeline.engine.sharded import ShardedStage
from s4m_pipeline.engine.stage import Stage
from s4m_pipeline.stages.prediction_settings import PredictionSettings
from s4m_pipeline.stages.training import own_models

PREDICTION_WORKER = "s4m_pipeline.stages.prediction_worker:PredictionWorker"
"""Predicts a stage's images; its task is a `PredictionTask`."""


@dataclass(frozen=True, slots=True)
class PredictionTask:
    """The images that a worker predicts, and the model that it predicts them with.

    Attributes:
        checkpoint: The model's file.
        device: The device that it runs on.
        records: The images by id.
        settings: Which predictions are stored.
        batch_size: Images the network takes at a time.
        own_models: The model configs that the run's own file names.
    """

    checkpoint: Path
    device: str
    records: Mapping[int, ImageRecord]
    settings: PredictionSettings
    batch_size: int
    own_models: tuple[str, ...] = ()

    @classmethod
    def of(cls, run: Run, stage: ShardedStage, model: Stage) -> PredictionTask:
        """The task of a stage whose images are predicted by the model of a training."""
        return cls(
            checkpoint=run.require(model) / CHECKPOINT,
            device=run.device,
            records={record.id: record for record in stage.records(run)},
            settings=PredictionSettings.of(run.config),
            batch_size=run.config.pseudo_label.batch_size,
            own_models=own_models(run.config),
        )
