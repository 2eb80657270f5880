"""What refines: images to the segmenter, rows of ``refined`` and its fellow tables back."""

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
class _Opened(OpenShard):
    images: Mapping[int, ImagePredictions]


class RefineWorker(StreamingWorker[_Opened, np.ndarray]):
    """A worker that refines a stage's predictions.

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

    def open(self, shard: Shard, advance: Advance) -> _Opened:
        """Read a shard's predictions; only some images need an encoder pass."""
        # What the teacher could not read has no labels; it stays aside in what follows.
        aside = read_rows(self._task.predictions, "quarantine", shard.image_ids)
        left = shard.without(row["image_id"] for row in aside)
        tables: dict[str, list[Row]] = {"refined": [], "quarantine": aside}
        if self._task.policy is not None:
            tables["segmented"] = []
        if self._task.targets is not None:
            tables["structure"] = []
        images = read_images(self._task, left)
        seen = [image.record for image in images.values() if self._needs_pass(image)]
        opened = _Opened(shard, seen, tables, images)
        for image in images.values():
            if not self._needs_pass(image):
                opened.add(decided_rows(self._task, image))
        advance(len(shard.image_ids) - len(seen))
        return opened

    def prepare(self, image: np.ndarray) -> np.ndarray:
        """Images go to the segmenter as they are."""
        return image

    def through(
        self, batches: Iterator[Batch[_Opened, np.ndarray]]
    ) -> Generator[tuple[_Opened, int], None, None]:
        """A GPU has the next batch while the masks of the last are made, and then its maps."""
        begun = one_ahead(self._begin, batches)
        for opened, decided in one_ahead(_decided, begun):
            if decided is None:
                yield opened, 0
                continue
            for made in decided.tables():
                opened.add(made)
            yield opened, len(decided.made)

    def close(self, done: _Opened) -> ShardResult:
        """Put the rows in order and count them."""
        for name in ("refined", "segmented"):
            done.tables.get(name, []).sort(key=lambda row: (row["image_id"], row["instance_id"]))
        counts = decided_counts(done.tables)
        counts["images"] = len(done.shard.image_ids) - counts["quarantined"]
        warnings = list(self._segmenter.warnings) if self._segmenter else []
        done.images = {}
        return ShardResult(done.tables, counts, warnings=warnings)

    def _needs_pass(self, image: ImagePredictions) -> bool:
        """Whether structural targets are wanted or one of its instances is to be prompted."""
        if self._task.targets is not None:
            return True
        if self._task.policy is None:
            return False
        choice = policy_of(self._task.policy)
        return any(choice(instance) is not None for instance in image.instances)

    def _begin(self, given: Batch[_Opened, np.ndarray]) -> tuple[_Opened, BegunBatch | None]:
        opened, batch = given
        if not batch:
            return opened, None
        if self._segmenter is None:
            raise ValueError("a policy other than none needs a segmenter")
        seen = [(opened.images[record.id], image) for record, image in batch]
        return opened, begin_batch(self._task, self._segmenter, seen)


def _decided(
    given: tuple[_Opened, BegunBatch | None],
) -> tuple[_Opened, DecidedBatch | None]:
    """Make a batch's masks; an empty one has none."""
    opened, begun = given
    return opened, None if begun is None else begun.decided()
