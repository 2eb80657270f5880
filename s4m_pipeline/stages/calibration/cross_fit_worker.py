"""The worker of ``cross-fit``: each labelled image is predicted by the teacher of its fold."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from s4m_pipeline.artifacts.shards import Shard, ShardResult
from s4m_pipeline.data.image_set import ImageRecord
from s4m_pipeline.devices.placement import Place, settle
from s4m_pipeline.engine.reading import in_batches, load_prepared
from s4m_pipeline.execution.base import Advance, ShardWorker
from s4m_pipeline.models.labeller.labeller import open_labeller
from s4m_pipeline.stages.calibration.cross_fit import CrossFitTask
from s4m_pipeline.stages.prediction_rows import prediction_rows


class CrossFitWorker(ShardWorker):
    """Has each image predicted by the teacher that did not see it.

    Args:
        stage: The stage's name.
        task: The images and the teachers.
        place: Which worker this is.
    """

    def __init__(self, stage: str, task: CrossFitTask, place: Place) -> None:
        self._stage, self._task = stage, task
        device = settle(task.device, place)
        self._teachers: list[Any] = [
            open_labeller([path], task.views, device, task.own_models) for path in task.checkpoints
        ]
        self._category_ids = [int(c["id"]) for c in self._teachers[0].categories]

    def process(self, shard: Shard, advance: Advance) -> ShardResult:
        """Predict each of a shard's images by its fold's teacher."""
        start = time.perf_counter()
        rows: dict[int, list[dict[str, Any]]] = {}
        aside: list[dict[str, Any]] = []
        for number in range(len(self._teachers)):
            ids = [i for i in shard.image_ids if self._task.fold_of[i] == number]
            records = [self._task.records[i] for i in ids]
            scaled = self._teachers[number].scaled
            images = load_prepared(records, self._stage, aside, scaled, self.decoded_bytes)
            for batch in in_batches(images, self._task.batch_size):
                rows |= self._predict(number, batch)
                advance(len(batch))
        advance(len(aside))
        flat = [row for image_id in sorted(rows) for row in rows[image_id]]
        return ShardResult(
            {"predictions": flat, "quarantine": aside},
            self._counts(len(rows), len(flat), len(aside)),
            {"predict": time.perf_counter() - start},
            warnings=sorted({text for teacher in self._teachers for text in teacher.warnings}),
        )

    def _counts(self, images: int, instances: int, aside: int) -> dict[str, int]:
        counts = {"images": images, "instances": instances, "quarantined": aside}
        passes = len(self._task.views)
        return counts | ({"passes": images * passes} if passes > 1 else {})

    def _predict(
        self, number: int, batch: Sequence[tuple[ImageRecord, Any]]
    ) -> dict[int, list[dict[str, Any]]]:
        images = [image for _, image in batch]
        predictions = self._teachers[number].predict(images, self._task.settings.min_score)
        return {
            record.id: prediction_rows(
                record, image.original, of_image, self._category_ids, self._task.settings
            )
            for (record, image), of_image in zip(batch, predictions, strict=True)
        }
