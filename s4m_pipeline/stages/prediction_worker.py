"""What predicts images: batches through a model, rows of the ``predictions`` table back."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import closing

import numpy as np

from s4m_pipeline.artifacts.shards import Shard, ShardResult
from s4m_pipeline.devices.placement import Place, settle
from s4m_pipeline.engine.streaming import Batch, OpenShard, StreamingWorker
from s4m_pipeline.execution.ahead import done_ahead
from s4m_pipeline.execution.base import Advance
from s4m_pipeline.models.predictor import InstancePredictions, Predictor
from s4m_pipeline.models.scaled_image import ScaledImage
from s4m_pipeline.stages.prediction_rows import prediction_rows
from s4m_pipeline.stages.pseudo_label import PredictionTask

Predicted = tuple[Batch[OpenShard, ScaledImage], list[InstancePredictions]]


class PredictionWorker(StreamingWorker[OpenShard, ScaledImage]):
    """A worker that has a model predict a stage's images.

    Args:
        stage: The stage's name.
        task: What is predicted, and with what.
        place: Which worker this is.
    """

    def __init__(self, stage: str, task: PredictionTask, place: Place) -> None:
        self.stage, self._task = stage, task
        self._teacher = Predictor(task.checkpoint, settle(task.device, place))
        self._category_ids = [int(c["id"]) for c in self._teacher.categories]
        self.batch_size = task.batch_size
        self.streams = self._teacher.device.type != "cpu"

    def open(self, shard: Shard, advance: Advance) -> OpenShard:
        """All images of a shard are read."""
        records = [self._task.records[image_id] for image_id in shard.image_ids]
        return OpenShard(shard, records, {"predictions": [], "quarantine": []})

    def prepare(self, image: np.ndarray) -> ScaledImage:
        """Bring an image to the teacher's scale."""
        return self._teacher.scaled(image)

    def through(
        self, batches: Iterator[Batch[OpenShard, ScaledImage]]
    ) -> Generator[tuple[OpenShard, int], None, None]:
        """Make rows; beside a GPU a thread is at the next batch meanwhile.

        The thread does nothing but that: the teacher waits for the GPU many times in a batch.
        """
        with closing(self._found(batches)) as predicted:
            for (opened, batch), found in predicted:
                for (record, image), predictions in zip(batch, found, strict=True):
                    rows = prediction_rows(
                        record, image.original, predictions, self._category_ids, self._task.settings
                    )
                    opened.add({"predictions": rows})
                yield opened, len(batch)

    def close(self, done: OpenShard) -> ShardResult:
        """Count images and rows."""
        rows, aside = done.tables["predictions"], len(done.tables["quarantine"])
        return ShardResult(
            done.tables,
            {"images": len(done.records) - aside, "instances": len(rows), "quarantined": aside},
            warnings=list(self._teacher.warnings),
        )

    def _found(
        self, batches: Iterator[Batch[OpenShard, ScaledImage]]
    ) -> Generator[Predicted, None, None]:
        if self._teacher.device.type == "cpu":
            yield from map(self._predict, batches)
        else:
            yield from done_ahead(self._predict, batches, threads=1, ahead=2)

    def _predict(self, batch: Batch[OpenShard, ScaledImage]) -> Predicted:
        images = [image for _, image in batch[1]]
        if not images:
            return batch, []
        return batch, self._teacher.predict(images, self._task.settings.min_score)
