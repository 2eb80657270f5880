"""Workers whose device gets images of the next shard before the rows of the last one are made.

Images are read ahead, grouped into batches, and go through a worker's own pipeline in order. A
batch never holds images of two shards, so that a shard's bytes do not depend on the shards that the
worker had before, or on where a stopped run resumes.
"""

from __future__ import annotations

import time
from abc import abstractmethod
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from s4m_pipeline.artifacts.shards import Shard, ShardResult
from s4m_pipeline.data.image_set import ImageRecord
from s4m_pipeline.data.images import decoded_size, prepare_threads
from s4m_pipeline.engine.reading import (
    AHEAD,
    READERS,
    is_full,
    quarantine_row,
    read_prepared,
)
from s4m_pipeline.errors import UsageError
from s4m_pipeline.execution.ahead import Budget, done_ahead
from s4m_pipeline.execution.base import Advance, Worker

if TYPE_CHECKING:
    import numpy as np

ENDS = AHEAD // 4
"""Places among the images read ahead that the end of a shard takes, so that few shards are open."""
MOST_OPEN = 6
"""Shards that may be open while the next batch fills up."""


@dataclass(slots=True)
class OpenShard:
    """A shard that is being worked on.

    Attributes:
        shard: The shard itself: its number and its images' ids.
        records: The images to read, in order.
        tables: The rows made so far by table, ``quarantine`` among them.
        left: How many of ``records`` are neither done nor set aside.
    """

    shard: Shard
    records: list[ImageRecord]
    tables: dict[str, list[dict[str, Any]]]
    left: int = field(init=False)

    def __post_init__(self) -> None:
        self.left = len(self.records)

    def add(self, tables: dict[str, list[dict[str, Any]]]) -> None:
        """Add rows to its tables."""
        for name, rows in tables.items():
            if rows:
                self.tables[name] += rows


Open = TypeVar("Open", bound=OpenShard)
Prepared = TypeVar("Prepared")
Batch = tuple[Open, list[tuple[ImageRecord, Prepared]]]
"""Images of one shard, each with what `StreamingWorker.prepare` made of it."""
Read = tuple[Open, ImageRecord | None, Prepared | UsageError | None]
"""An image with what was made of it or why it cannot be read; None for both at a shard's end."""


class StreamingWorker(Worker, Generic[Open, Prepared]):
    """A worker over batches of images.

    Attributes:
        stage: The stage's name, for the rows of ``quarantine``.
        batch_size: Images in a batch at most.
        streams: Whether the next shard is begun before the last one is done. That pays for a device
            that works by itself. On a CPU a worker would only take shards away from others.
    """

    stage: str
    batch_size: int
    streams: bool

    @abstractmethod
    def open(self, shard: Shard, advance: Advance) -> Open:
        """Begin a shard, and finish those of its images that need not be read."""

    @abstractmethod
    def prepare(self, image: np.ndarray) -> Prepared:
        """Prepare an image, uint8 (H, W, 3) RGB, in a thread and ahead of the device."""

    @abstractmethod
    def through(
        self, batches: Iterator[Batch[Open, Prepared]]
    ) -> Generator[tuple[Open, int], None, None]:
        """Add the rows of each batch to its shard.

        Args:
            batches: Batches in order. One may be empty.

        Yields:
            For each batch, in order, its shard and the number of images that are done: 0 for an
            empty one.
        """

    @abstractmethod
    def close(self, open_shard: Open) -> ShardResult:
        """The result of a finished shard, without its seconds."""

    def run(self, shards: Iterable[Shard], advance: Advance) -> Iterator[tuple[Shard, ShardResult]]:
        """See `Worker.run`."""
        if self.streams:
            yield from self._stream(shards, advance)
        else:
            for shard in shards:
                yield from self._stream([shard], advance)

    def _stream(
        self, shards: Iterable[Shard], advance: Advance
    ) -> Iterator[tuple[Shard, ShardResult]]:
        open_shards: deque[Open] = deque()  # results are given in this order
        budget: Budget[tuple[Open, ImageRecord | None]] = Budget(self.decoded_bytes, _size_of)
        start = time.perf_counter()
        with (
            closing(self._jobs(shards, open_shards, advance)) as jobs,
            closing(done_ahead(self._read, jobs, READERS, AHEAD, budget)) as images,
            closing(self.through(self._batches(images, open_shards, advance))) as steps,
        ):
            prepare_threads()
            for open_shard, count in steps:
                open_shard.left -= count
                if count:
                    advance(count)
                while open_shards and not open_shards[0].left:
                    yield self._result(open_shards.popleft(), start)
                    start = time.perf_counter()

    def _result(self, open_shard: Open, start: float) -> tuple[Shard, ShardResult]:
        result = self.close(open_shard)
        # the result has the tables, and a pipeline may hold the shard a while longer
        open_shard.tables = {}
        result.seconds = {self.stage: time.perf_counter() - start}
        return open_shard.shard, result

    def _jobs(
        self, shards: Iterable[Shard], open_shards: deque[Open], advance: Advance
    ) -> Generator[tuple[Open, ImageRecord | None], None, None]:
        """Each shard's images, then its end."""
        for shard in shards:
            open_shard = self.open(shard, advance)
            open_shards.append(open_shard)
            for record in open_shard.records:
                yield open_shard, record
            for _ in range(ENDS):
                yield open_shard, None

    def _read(self, job: tuple[Open, ImageRecord | None]) -> Read[Open, Prepared]:
        open_shard, record = job
        if record is None:
            return open_shard, None, None
        return open_shard, record, read_prepared(record, self.prepare)

    def _batches(
        self, images: Iterable[Read[Open, Prepared]], open_shards: Sequence[Open], advance: Advance
    ) -> Iterator[Batch[Open, Prepared]]:
        """Full batches, and the rest of each shard; what cannot be read is set aside.

        A shard without a rest ends with an empty batch where no open shard has images left, so that
        no later batch would bring the finished ones out, or where too many shards are open.
        """
        batch: list[tuple[ImageRecord, Prepared]] = []
        for open_shard, record, prepared in images:
            if record is None or prepared is None:
                another_comes = any(shard.left for shard in open_shards)
                if batch or not another_comes or len(open_shards) >= MOST_OPEN:
                    yield open_shard, batch
                    batch = []
                continue
            if isinstance(prepared, UsageError):
                row = quarantine_row(record, self.stage, prepared)
                open_shard.tables["quarantine"].append(row)
                open_shard.left -= 1
                advance(1)
                continue
            batch.append((record, prepared))
            if is_full(batch, self.batch_size, self.decoded_bytes):
                yield open_shard, batch
                batch = []


def _size_of(job: tuple[OpenShard, ImageRecord | None]) -> int:
    """Bytes of the image that is to be read; none at a shard's end."""
    return 0 if job[1] is None else decoded_size(job[1])
