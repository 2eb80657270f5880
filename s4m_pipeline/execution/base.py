"""What an engine runs: workers that go through shards, made in the process where they run."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from s4m_pipeline.artifacts.shards import Shard, ShardResult
from s4m_pipeline.devices.placement import Place

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
    """What ends a shard before it takes the next."""

    def run(self, shards: Iterable[Shard], advance: Advance) -> Iterator[tuple[Shard, ShardResult]]:
        """See `Worker.run`."""
        for shard in shards:
            yield shard, self.process(shard, advance)

    @abstractmethod
    def process(self, shard: Shard, advance: Advance) -> ShardResult:
        """Make a shard's rows; call ``advance`` as images are done."""


WorkerFactory = Callable[[Any, Place], Worker]
"""A module-level function that makes a worker from a picklable argument and its place."""
