"""Workers whose device has images of the next shard before the last one's rows are made.

Images are read ahead, grouped into batches, and go through a worker's own pipeline in their order.
A batch never holds images of two shards, so that a shard's bytes do not depend on which shards the
worker had before, or on where a stopped run goes on.
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
from s4m_pipeline.data.images import prepare_threads
from s4m_pipeline.engine.reading import AHEAD, READERS, quarantine_row, read_prepared
from s4m_pipeline.errors import UsageError
from s4m_pipeline.execution.ahead import done_ahead
from s4m_pipeline.execution.base import Advance, Worker

if TYPE_CHECKING:
    import numpy as np

ENDS = AHEAD // 4
"""Places among the images read ahead that a shard's end takes up, so that few shards are open."""
MOST_OPEN = 6
"""Shards that may wait for the next batch to come."""


@dataclass(slots=True)
class OpenShard:
    """A shard under way.

    Attributes:
        shard: The shard itself: its number and its images' ids.
        records: Its images that are to be read, in order.
        tables: Its rows so far by table, ``quarantine`` among them.
        left: How many of ``records`` are neither done nor set aside.
    """

    shard: Shard
    records: list[ImageRecord]
    tables: dict[str, list[dict[str, Any]]]
    left: int = field(init=False)

    def __post_init__(self) -> None:
        self.left = len(self.records)

    def add(self, made: dict[str, list[dict[str, Any]]]) -> None:
        """Add rows to its tables."""
        for name, rows in made.items():
            if rows:
                self.tables[name] += rows


Open = TypeVar("Open", bound=OpenShard)
Prepared = TypeVar("Prepared")
Batch = tuple[Open, list[tuple[ImageRecord, Prepared]]]
"""Images of one shard, each with what `StreamingWorker.prepare` made of it."""
Read = tuple[Open, ImageRecord | None, Prepared | UsageError | None]
"""An image that was read, or why it was not; neither at a shard's end."""


class StreamingWorker(Worker, Generic[Open, Prepared]):
    """A worker over batches of images.

    Attributes:
        stage: The stage's name, for the rows of ``quarantine``.
        batch_size: Most images in a batch.
        streams: Whether the next shard is begun before one is done. A device that works by itself
            gains by it. On a CPU a worker would only take shards away from others.
    """

    stage: str
    batch_size: int
    streams: bool

    @abstractmethod
    def open(self, shard: Shard, advance: Advance) -> Open:
        """Begin a shard; those of its images that need not be read are done here."""

    @abstractmethod
    def prepare(self, image: np.ndarray) -> Prepared:
        """What is made of an image, uint8 (H, W, 3) RGB, ahead and in a thread."""

    @abstractmethod
    def through(
        self, batches: Iterator[Batch[Open, Prepared]]
    ) -> Generator[tuple[Open, int], None, None]:
        """Add each batch's rows to its shard, in order; gives the shard and the images done.

        Where a batch is empty, its shard is given back with 0 images.
        """

    @abstractmethod
    def close(self, done: Open) -> ShardResult:
        """A finished shard's result; the seconds are added to it."""

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
        begun: deque[Open] = deque()  # all but the first wait for their turn
        since = time.perf_counter()
        with (
            closing(self._jobs(shards, begun, advance)) as jobs,
            closing(done_ahead(self._read, jobs, READERS, AHEAD)) as images,
            closing(self.through(self._batches(images, begun, advance))) as passed,
        ):
            prepare_threads()
            for shard, count in passed:
                shard.left -= count
                if count:
                    advance(count)
                while begun and not begun[0].left:
                    yield self._result(begun.popleft(), since)
                    since = time.perf_counter()

    def _result(self, done: Open, since: float) -> tuple[Shard, ShardResult]:
        result = self.close(done)
        done.tables = {}  # the result has them, and a pipeline may hold the shard a while longer
        result.seconds = {self.stage: time.perf_counter() - since}
        return done.shard, result

    def _jobs(
        self, shards: Iterable[Shard], begun: deque[Open], advance: Advance
    ) -> Generator[tuple[Open, ImageRecord | None], None, None]:
        """Each shard's images, and its end."""
        for shard in shards:
            opened = self.open(shard, advance)
            begun.append(opened)
            for record in opened.records:
                yield opened, record
            for _ in range(ENDS):
                yield opened, None

    def _read(self, job: tuple[Open, ImageRecord | None]) -> Read[Open, Prepared]:
        opened, record = job
        if record is None:
            return opened, None, None
        return opened, record, read_prepared(record, self.prepare)

    def _batches(
        self, images: Iterable[Read[Open, Prepared]], begun: Sequence[Open], advance: Advance
    ) -> Iterator[Batch[Open, Prepared]]:
        """Whole batches and each shard's last one; what cannot be read is set aside.

        An empty one comes at a shard's end where no batch is under way with which finished shards
        would be given back, or where too many wait for one.
        """
        batch: list[tuple[ImageRecord, Prepared]] = []
        for opened, record, found in images:
            if record is None or found is None:
                under_way = any(shard.left for shard in begun) and len(begun) < MOST_OPEN
                if batch or not under_way:
                    yield opened, batch
                    batch = []
                continue
            if isinstance(found, UsageError):
                opened.tables["quarantine"].append(quarantine_row(record, self.stage, found))
                opened.left -= 1
                advance(1)
                continue
            batch.append((record, found))
            if len(batch) == self.batch_size:
                yield opened, batch
                batch = []
