"""The worker that predicts images: a model makes rows of the ``predictions`` table."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from s4m_pipeline.artifacts.shards import Shard, ShardResult
from s4m_pipeline.devices.placement import Place, settle
from s4m_pipeline.engine.streaming import Batch, OpenShard, StreamingWorker
from s4m_pipeline.execution.ahead import done_ahead
from s4m_pipeline.execution.base import Advance
from s4m_pipeline.models.labeller.labeller import ViewedImage, open_labeller
from s4m_pipeline.models.predictor import InstancePredictions
from s4m_pipeline.models.scaled_image import ScaledImage
from s4m_pipeline.stages.prediction_rows import count_reaching, prediction_rows
from s4m_pipeline.stages.prediction_task import PredictionTask


@dataclass(slots=True)
class _OpenShard(OpenShard):
    without_pixel: int = field(default=0, init=False)
    """Predictions with empty masks, in images of which nothing is stored."""


Shown = ScaledImage | ViewedImage
Predicted = tuple[Batch[_OpenShard, Shown], list[InstancePredictions]]


class PredictionWorker(StreamingWorker[_OpenShard, Shown]):
    """Has a model, or several, predict a stage's images.

    Args:
        stage: The stage's name.
        task: The images and the models.
        place: Which worker this is.
    """

    def __init__(self, stage: str, task: PredictionTask, place: Place) -> None:
        self.stage, self._task = stage, task
        device = settle(task.device, place)
        checkpoints = (task.checkpoint, *task.others)
        self._teacher: Any = open_labeller(checkpoints, task.views, device, task.own_models)
        self._category_ids = [int(c["id"]) for c in self._teacher.categories]
        self.batch_size = task.batch_size
        self.streams = self._teacher.device.type != "cpu"

    def open(self, shard: Shard, advance: Advance) -> _OpenShard:
        """All images of a shard are read."""
        records = [self._task.records[image_id] for image_id in shard.image_ids]
        return _OpenShard(shard, records, {"predictions": [], "quarantine": []})

    def prepare(self, image: np.ndarray) -> Shown:
        """Bring an image to the teacher's scale, or to those of all views."""
        shown: Shown = self._teacher.scaled(image)
        return shown

    def through(
        self, batches: Iterator[Batch[_OpenShard, Shown]]
    ) -> Generator[tuple[_OpenShard, int], None, None]:
        """Make rows; with a GPU, a thread predicts the next batch at the same time.

        The thread does nothing else: the teacher waits for the GPU many times in a batch.
        """
        with closing(self._predictions(batches)) as predicted_batches:
            for (open_shard, batch), predictions in predicted_batches:
                for (record, image), of_image in zip(batch, predictions, strict=True):
                    rows = prediction_rows(
                        record, image.original, of_image, self._category_ids, self._task.settings
                    )
                    open_shard.add({"predictions": rows})
                    if not rows:  # only where nothing is found does anybody ask why
                        least = self._task.settings.min_score
                        open_shard.without_pixel += count_reaching(of_image, least)
                yield open_shard, len(batch)

    def close(self, open_shard: _OpenShard) -> ShardResult:
        """Count images and rows."""
        tables = open_shard.tables
        instances, aside = len(tables["predictions"]), len(tables["quarantine"])
        images = len(open_shard.records) - aside
        counts = {"images": images, "instances": instances, "quarantined": aside}
        if self._task.passes > 1:
            counts["passes"] = images * self._task.passes
        if open_shard.without_pixel:
            counts["without_pixel"] = open_shard.without_pixel
        return ShardResult(tables, counts, warnings=list(self._teacher.warnings))

    def _predictions(
        self, batches: Iterator[Batch[_OpenShard, Shown]]
    ) -> Generator[Predicted, None, None]:
        if self._teacher.device.type == "cpu":
            yield from map(self._predict, batches)
        else:
            yield from done_ahead(self._predict, batches, threads=1, ahead=2)

    def _predict(self, batch: Batch[_OpenShard, Shown]) -> Predicted:
        images = [image for _, image in batch[1]]
        if not images:
            return batch, []
        return batch, self._teacher.predict(images, self._task.settings.min_score)
