"""The worker of ``refine``: the segmenter's masks become rows of ``refined`` and other tables."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from s4m_pipeline.artifacts.shards import Shard, ShardResult
from s4m_pipeline.artifacts.tables import read_rows
from s4m_pipeline.devices.placement import Place, settle
from s4m_pipeline.engine.streaming import Batch, OpenShard, StreamingWorker
from s4m_pipeline.execution.ahead import one_ahead
from s4m_pipeline.execution.base import Advance
from s4m_pipeline.refinement.policies import policy_of
from s4m_pipeline.stages.refine.batch import BegunBatch, DecidedBatch, begin_batch
from s4m_pipeline.stages.refine.labels import (
    ImagePredictions,
    decided_counts,
    decided_rows,
    read_images,
)
from s4m_pipeline.stages.refine.refine_task import RefineTask
from s4m_pipeline.stages.refine.rows import Row


@dataclass(slots=True)
class _OpenShard(OpenShard):
    images: Mapping[int, ImagePredictions]
    passes: int = 0


class RefineWorker(StreamingWorker[_OpenShard, np.ndarray]):
    """Refines the teacher's masks.

    Args:
        stage: The stage's name.
        task: What is refined, and how.
        place: Which worker this is.
    """

    def __init__(self, stage: str, task: RefineTask, place: Place) -> None:
        self.stage, self._task = stage, task
        self._segmenter = None
        self.batch_size, self.streams = 1, False
        if task.segmenter is not None:
            device = settle(task.segmenter.device, place)
            self._segmenter = task.segmenter.build(device, task.records)
            self.batch_size = task.segmenter.batch_size
            self.streams = self._segmenter.device.type != "cpu"

    def open(self, shard: Shard, advance: Advance) -> _OpenShard:
        """Read a shard's predictions; only some images need an encoder pass."""
        # An image that the teacher could not read has no labels and stays set aside.
        aside = read_rows(self._task.predictions, "quarantine", shard.image_ids)
        left = shard.without(row["image_id"] for row in aside)
        tables: dict[str, list[Row]] = {"refined": [], "quarantine": aside}
        if self._task.policy is not None:
            tables["segmented"] = []
        if self._task.targets is not None:
            tables["structure"] = []
        images = read_images(self._task, left)
        to_read = [image.record for image in images.values() if self._needs_pass(image)]
        open_shard = _OpenShard(shard, to_read, tables, images)
        for image in images.values():
            if not self._needs_pass(image):
                open_shard.add(decided_rows(self._task, image))
        advance(len(shard.image_ids) - len(to_read))
        return open_shard

    def prepare(self, image: np.ndarray) -> np.ndarray:
        """Images go to the segmenter as they are."""
        return image

    def through(
        self, batches: Iterator[Batch[_OpenShard, np.ndarray]]
    ) -> Generator[tuple[_OpenShard, int], None, None]:
        """A GPU has the next batch while the masks of the last are made, and then its maps."""
        begun_batches = one_ahead(self._begin, batches)
        for open_shard, batch in one_ahead(_decided, begun_batches):
            if batch is None:
                yield open_shard, 0
                continue
            open_shard.passes += batch.passes
            for rows in batch.tables():
                open_shard.add(rows)
            yield open_shard, len(batch.rows)

    def close(self, open_shard: _OpenShard) -> ShardResult:
        """Put the rows in order and count them."""
        tables = open_shard.tables
        for name in ("refined", "segmented"):
            tables.get(name, []).sort(key=lambda row: (row["image_id"], row["instance_id"]))
        counts = decided_counts(tables)
        counts["images"] = len(open_shard.shard.image_ids) - counts["quarantined"]
        counts["encoder_passes"] = open_shard.passes
        warnings = list(self._segmenter.warnings) if self._segmenter else []
        open_shard.images = {}  # a pipeline may hold the shard a while longer
        return ShardResult(tables, counts, warnings=warnings)

    def _needs_pass(self, image: ImagePredictions) -> bool:
        """Whether structural targets are wanted, or one of the image's instances is prompted."""
        if self._task.targets is not None:
            return True
        if self._task.policy is None:
            return False
        choice = policy_of(self._task.policy)
        return any(choice(instance) is not None for instance in image.instances)

    def _begin(self, batch: Batch[_OpenShard, np.ndarray]) -> tuple[_OpenShard, BegunBatch | None]:
        open_shard, images = batch
        if not images:
            return open_shard, None
        if self._segmenter is None:
            raise ValueError("a policy other than none needs a segmenter")
        predicted = [(open_shard.images[record.id], image) for record, image in images]
        return open_shard, begin_batch(self._task, self._segmenter, predicted)


def _decided(
    batch: tuple[_OpenShard, BegunBatch | None],
) -> tuple[_OpenShard, DecidedBatch | None]:
    """Make the masks of a batch; None for an empty one."""
    open_shard, begun_batch = batch
    return open_shard, None if begun_batch is None else begun_batch.decided()
