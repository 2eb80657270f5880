"""What the worker of ``pseudo-label`` and ``held-out`` needs to know."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from s4m_pipeline.artifacts.training_files import CHECKPOINT
from s4m_pipeline.config_views import View, read_views
from s4m_pipeline.data.image_set import ImageRecord
from s4m_pipeline.engine.run import Run
from s4m_pipeline.engine.sharded import ShardedStage
from s4m_pipeline.stages.prediction_settings import PredictionSettings
from s4m_pipeline.stages.teachers import teacher_files
from s4m_pipeline.stages.training import own_models
from s4m_pipeline.stages.trainings import labeller

PREDICTION_WORKER = "s4m_pipeline.stages.prediction_worker:PredictionWorker"
"""Predicts a stage's images; its task is a `PredictionTask`."""


@dataclass(frozen=True, slots=True)
class PredictionTask:
    """The images that a worker predicts, and the models that it predicts them with.

    Attributes:
        checkpoint: The model's file.
        device: The device that it runs on.
        records: The images by id.
        settings: Which predictions are stored.
        batch_size: Images the network takes at a time.
        own_models: The model configs that the run's own file names.
        others: The files of models that predict beside it.
        views: What each model looks at.
    """

    checkpoint: Path
    device: str
    records: Mapping[int, ImageRecord]
    settings: PredictionSettings
    batch_size: int
    own_models: tuple[str, ...] = ()
    others: tuple[Path, ...] = ()
    views: tuple[View, ...] = (View(),)

    @property
    def passes(self) -> int:
        """How often a network looks at an image."""
        return (1 + len(self.others)) * len(self.views)

    @classmethod
    def of(cls, run: Run, stage: ShardedStage, alone: bool = False) -> PredictionTask:
        """The task of a stage whose images are predicted by those that label in its round.

        Args:
            run: The run.
            stage: The stage.
            alone: Whether the round's own model predicts by itself, in one view.
        """
        return cls(
            checkpoint=run.require(labeller(stage.round, stage.refresh)) / CHECKPOINT,
            device=run.device,
            records={record.id: record for record in stage.records(run)},
            settings=PredictionSettings.of(run.config),
            batch_size=run.config.pseudo_label.batch_size,
            own_models=own_models(run.config),
            others=() if alone else teacher_files(run, stage.round),
            views=(View(),) if alone else read_views(run.config.pseudo_label.views),
        )
