"""The contract between stages and engines: shards go in, each one's marker comes back.

A worker makes the rows of shards. An engine runs workers somewhere, and each of them writes its own
shards (`write_shards`), so that no table passes through the process that drives them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from s4m_pipeline.artifacts.shards import Shard, ShardMarker, ShardResult, write_shard
from s4m_pipeline.devices.placement import Place
from s4m_pipeline.execution.ahead import DECODED_BYTES
from s4m_pipeline.late import load

Advance = Callable[[int], None]
"""Called with the number of images finished since the last call."""


class Worker(ABC):
    """Processes shards, one after another.

    Attributes:
        decoded_bytes: What decoded pictures that wait for it may take.
    """

    decoded_bytes: int = DECODED_BYTES

    @abstractmethod
    def run(self, shards: Iterable[Shard], advance: Advance) -> Iterator[tuple[Shard, ShardResult]]:
        """Make the rows of shards.

        Args:
            shards: Taken as there is room for them.
            advance: Called as images are done.

        Yields:
            Each shard with its rows when it is done, in order.
        """

    def process(self, shard: Shard, advance: Advance) -> ShardResult:
        """Make one shard's rows; see `run`."""
        ((_, result),) = self.run([shard], advance)
        return result


class ShardWorker(Worker):
    """A worker that finishes a shard before it takes the next."""

    def run(self, shards: Iterable[Shard], advance: Advance) -> Iterator[tuple[Shard, ShardResult]]:
        """See `Worker.run`."""
        for shard in shards:
            yield shard, self.process(shard, advance)

    @abstractmethod
    def process(self, shard: Shard, advance: Advance) -> ShardResult:
        """Make a shard's rows; call ``advance`` as images are done."""


WorkerFactory = Callable[[str, Any, Place], Worker]
"""Makes a worker from the stage's name, the stage's task for it, and the worker's place; a function
or class at the top of a module."""


@dataclass(frozen=True, slots=True)
class ShardJob:
    """What the workers of a stage do, and where they write; picklable.

    Attributes:
        stage: The stage's name.
        worker: A `WorkerFactory` as ``package.module:thing``; it is imported where it runs.
        task: What the worker needs to know; picklable.
        folder: The artifact's folder.
        categories: Categories to write into the tables, in label order.
        decoded_bytes: What decoded pictures may take that wait for the workers, all together.
    """

    stage: str
    worker: str
    task: Any
    folder: Path
    categories: Sequence[Mapping[str, Any]]
    decoded_bytes: int = DECODED_BYTES

    def make_worker(self, place: Place) -> Worker:
        """Make a worker, for the process that calls this."""
        factory: WorkerFactory = load(self.worker)
        worker = factory(self.stage, self.task, place)
        worker.decoded_bytes = self.decoded_bytes // place.workers
        return worker


def write_shards(
    job: ShardJob, place: Place, shards: Iterable[Shard], advance: Advance
) -> Iterator[tuple[Shard, ShardMarker]]:
    """Process shards and write each one. Every engine calls this where its workers run.

    Args:
        job: What is done with them.
        place: Which worker this is.
        shards: Taken as there is room for them.
        advance: Called as images are done.

    Yields:
        Each shard with its marker, once its tables and the marker are on disk.
    """
    for shard, result in job.make_worker(place).run(shards, advance):
        yield shard, write_shard(job.folder, shard, result, job.categories)


Engine = Callable[[Sequence[Shard], ShardJob, int, Advance], Iterator[tuple[Shard, ShardMarker]]]
"""Processes shards by a job with a number of workers; gives each shard's marker when it is written,
in any order. Raises S4MError where a worker fails."""
