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
from s4m_pipeline.late import load

Advance = Callable[[int], None]
"""Called with the number of images finished since the last call."""


class Worker(ABC):
    """What works through shards, one after another."""

    @abstractmethod
    def run(self, shards: Iterable[Shard], advance: Advance) -> Iterator[tuple[Shard, ShardResult]]:
        """Make the rows of shards.

        Args:
            shards: Taken as there is room for them.
            advance: Called as images are done.

        Yields:
            Each shard when it is done, in their order.
        """

    def process(self, shard: Shard, advance: Advance) -> ShardResult:
        """Make one shard's rows; see `run`."""
        ((_, result),) = self.run([shard], advance)
        return result


class ShardWorker(Worker):
    """A worker that ends a shard before it takes the next."""

    def run(self, shards: Iterable[Shard], advance: Advance) -> Iterator[tuple[Shard, ShardResult]]:
        """See `Worker.run`."""
        for shard in shards:
            yield shard, self.process(shard, advance)

    @abstractmethod
    def process(self, shard: Shard, advance: Advance) -> ShardResult:
        """Make a shard's rows; call ``advance`` as images are done."""


WorkerFactory = Callable[[str, Any, Place], Worker]
"""Makes a worker of a stage's name, what the stage has for it, and its place; a module-level
function or class."""


@dataclass(frozen=True, slots=True)
class ShardJob:
    """What the workers of a stage do, and where to; picklable.

    Attributes:
        stage: The stage's name.
        worker: A `WorkerFactory`, as ``package.module:thing``: it is imported where it runs.
        argument: What the factory needs; picklable.
        folder: The artifact's folder.
        categories: Categories to write into the tables, in label order.
    """

    stage: str
    worker: str
    argument: Any
    folder: Path
    categories: Sequence[Mapping[str, Any]]

    def make_worker(self, place: Place) -> Worker:
        """A worker, in the process that calls this."""
        factory: WorkerFactory = load(self.worker)
        return factory(self.stage, self.argument, place)


def write_shards(
    job: ShardJob, place: Place, shards: Iterable[Shard], advance: Advance
) -> Iterator[tuple[Shard, ShardMarker]]:
    """Work through shards and write each one; this is what every engine calls where it works.

    Args:
        job: What is done.
        place: Which worker this is.
        shards: Taken as there is room for them.
        advance: Called as images are done.

    Yields:
        Each shard with its marker, once its tables and the marker are on disk.
    """
    for shard, result in job.make_worker(place).run(shards, advance):
        yield shard, write_shard(job.folder, shard, result, job.categories)


Engine = Callable[[Sequence[Shard], ShardJob, int, Advance], Iterator[tuple[Shard, ShardMarker]]]
"""Runs a job's shards by a number of workers; gives each shard's marker when it is written, in any
order. Raises S4MError where a worker fails."""
