"""What makes structural targets: images to the segmenter, rows of the ``structure`` table back."""

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
    """A worker over labelled images.

    Args:
        stage: The stage's name.
        task: What targets are made of.
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
        """A GPU has the next batch while the rows of the last one are taken."""
        for opened, begun in one_ahead(self._begin, batches):
            opened.add({"structure": [one.row() for one in begun]})
            yield opened, len(begun)

    def close(self, done: OpenShard) -> ShardResult:
        """Count the rows."""
        made, aside = len(done.tables["structure"]), len(done.tables["quarantine"])
        return ShardResult(
            done.tables,
            {"images": made, "quarantined": aside},
            warnings=list(self._segmenter.warnings),
        )

    def _begin(self, given: Batch[OpenShard, np.ndarray]) -> tuple[OpenShard, list[BegunRow]]:
        """Ask for the rows of a batch, without waiting for a GPU."""
        opened, batch = given
        if not batch:
            return opened, []
        segmenter, task = self._segmenter, self._task
        embeddings = segmenter.encode([image for _, image in batch])
        rows = []
        for index, (record, image) in enumerate(batch):
            size = (image.shape[0], image.shape[1])
            rles = task.masks.get(record.id, [])
            rows.append(begin_row(segmenter, embeddings, index, record, size, rles, task.targets))
        return opened, rows
