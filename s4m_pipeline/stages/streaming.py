"""Workers whose device has images of the next shard before the last one's rows are made.

Images are read ahead, grouped into batches, and go through a worker's own pipeline in their order.
A batch never holds images of two shards, so that a shard's bytes do not depend on which shards the
worker had before, or on where a stopped run goes on.
"""

from __future__ import annotations

import time
from abc import abstractmethod
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

from s4m_pipeline.artifacts.shards import Shard, ShardResult
from s4m_pipeline.data.ahead import done_ahead
from s4m_pipeline.data.image_set import ImageRecord
from s4m_pipeline.data.images import prepare_threads, read_sized_image
from s4m_pipeline.errors import UsageError
from s4m_pipeline.execution.local import Advance, Worker
from s4m_pipeline.stages.sharded import AHEAD, READERS, quarantine_row

if TYPE_CHECKING:
    import numpy as np


@dataclass(slots=True)
class OpenShard:
    """A shard under way.

    Attributes:
        shard: It.
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
            self.tables[name] += rows


Open = TypeVar("Open", bound=OpenShard)
Prepared = TypeVar("Prepared")
Batch = tuple[Open, list[tuple[ImageRecord, Prepared]]]
"""Images of one shard, each with what `StreamingWorker.prepare` made of it."""


class StreamingWorker(Worker, Generic[Open, Prepared]):
    """A worker over batches of images.

    Attributes:
        stage: The stage's name, for the rows of ``quarantine``.
        batch_size: Most images in a batch.
        streams: Whether the next shard is begun before one is done. A device that works by itself
            gains by it. On a CPU a worker would only take shards away from others.
    """

    stage: ClassVar[str]
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
        """Add each batch's rows to its shard, in order; gives the shard and the images done."""

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
        begun: deque[Open] = deque()
        since = time.perf_counter()
        with (
            closing(self._jobs(shards, begun, advance)) as jobs,
            closing(done_ahead(self._read, jobs, READERS, AHEAD)) as images,
            closing(self.through(self._batches(images, advance))) as passed,
        ):
            prepare_threads()
            for shard, count in passed:
                shard.left -= count
                advance(count)
                while begun and not begun[0].left:
                    yield self._result(begun.popleft(), since)
                    since = time.perf_counter()
        for shard in begun:  # those at the end without an image that could be read
            yield self._result(shard, since)
            since = time.perf_counter()

    def _result(self, done: Open, since: float) -> tuple[Shard, ShardResult]:
        result = self.close(done)
        result.seconds = {self.stage: time.perf_counter() - since}
        return done.shard, result

    def _jobs(
        self, shards: Iterable[Shard], begun: deque[Open], advance: Advance
    ) -> Generator[tuple[Open, ImageRecord], None, None]:
        for shard in shards:
            opened = self.open(shard, advance)
            begun.append(opened)
            for record in opened.records:
                yield opened, record

    def _read(
        self, job: tuple[Open, ImageRecord]
    ) -> tuple[Open, ImageRecord, Prepared | UsageError]:
        opened, record = job
        try:
            image = read_sized_image(record.path, record.height, record.width)
        except UsageError as error:
            return opened, record, error
        return opened, record, self.prepare(image)

    def _batches(
        self, images: Iterable[tuple[Open, ImageRecord, Prepared | UsageError]], advance: Advance
    ) -> Iterator[Batch[Open, Prepared]]:
        """Whole batches and each shard's last one; what cannot be read is set aside."""
        batch: list[tuple[ImageRecord, Prepared]] = []
        of: Open | None = None
        for opened, record, found in images:
            if of is not None and opened is not of and batch:
                yield of, batch
                batch = []
            of = opened
            if isinstance(found, UsageError):
                opened.tables["quarantine"].append(quarantine_row(record, self.stage, found))
                opened.left -= 1
                advance(1)
                continue
            batch.append((record, found))
            if len(batch) == self.batch_size:
                yield opened, batch
                batch = []
        if of is not None and batch:
            yield of, batch
