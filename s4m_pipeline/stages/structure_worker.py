"""The worker of ``structure``: the segmenter makes rows of the ``structure`` table."""

from __future__ import annotations

from collections.abc import Generator, Iterator

import numpy as np

from s4m_pipeline.artifacts.shards import Shard, ShardResult
from s4m_pipeline.devices.placement import Place, settle
from s4m_pipeline.engine.streaming import Batch, OpenShard, StreamingWorker
from s4m_pipeline.execution.ahead import one_ahead
from s4m_pipeline.execution.base import Advance
from s4m_pipeline.stages.structure import StructureTask
from s4m_pipeline.stages.structure_rows import BegunRow, begin_row


class StructureWorker(StreamingWorker[OpenShard, np.ndarray]):
    """Makes structural targets of labelled images.

    Args:
        stage: The stage's name.
        task: The images, and how targets are made.
        place: Which worker this is.
    """

    def __init__(self, stage: str, task: StructureTask, place: Place) -> None:
        self.stage, self._task = stage, task
        self._segmenter = task.segmenter.build(settle(task.segmenter.device, place), task.records)
        self.batch_size = task.segmenter.batch_size
        self.streams = self._segmenter.device.type != "cpu"

    def open(self, shard: Shard, advance: Advance) -> OpenShard:
        """All images of a shard are read."""
        records = [self._task.records[image_id] for image_id in shard.image_ids]
        return OpenShard(shard, records, {"structure": [], "quarantine": []})

    def prepare(self, image: np.ndarray) -> np.ndarray:
        """Images go to the segmenter as they are."""
        return image

    def through(
        self, batches: Iterator[Batch[OpenShard, np.ndarray]]
    ) -> Generator[tuple[OpenShard, int], None, None]:
        """A GPU has the next batch while the rows of the last one are collected."""
        for open_shard, rows in one_ahead(self._begin, batches):
            open_shard.add({"structure": [row.row() for row in rows]})
            yield open_shard, len(rows)

    def close(self, open_shard: OpenShard) -> ShardResult:
        """Count the rows."""
        tables = open_shard.tables
        return ShardResult(
            tables,
            {"images": len(tables["structure"]), "quarantined": len(tables["quarantine"])},
            warnings=list(self._segmenter.warnings),
        )

    def _begin(self, batch: Batch[OpenShard, np.ndarray]) -> tuple[OpenShard, list[BegunRow]]:
        """Begin the rows of a batch, without waiting for a GPU."""
        open_shard, images = batch
        if not images:
            return open_shard, []
        segmenter, task = self._segmenter, self._task
        embeddings = segmenter.encode([image for _, image in images])
        rows = []
        for index, (record, image) in enumerate(images):
            size = (image.shape[0], image.shape[1])
            rles = task.masks.get(record.id, [])
            rows.append(begin_row(segmenter, embeddings, index, record, size, rles, task.targets))
        return open_shard, rows
