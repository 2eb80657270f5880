"""Four local workers, one of them at half speed: their time over the ideal (row 14).

The work is waiting, so that the figure is that of the distribution of shards alone, whatever else
the machine does. The ideal is all images over the sum of the workers' speeds, no worker ever idle.
The clock starts when the last worker is up.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from harness import report

from s4m_pipeline.artifacts.shards import Shard, ShardResult, make_shards
from s4m_pipeline.devices.placement import Place
from s4m_pipeline.execution.base import Advance, ShardJob, ShardWorker
from s4m_pipeline.execution.local import run_shards

IMAGES = 2048
SECONDS = 0.02
"""Of an image, at full speed."""
SPEEDS = (1.0, 1.0, 1.0, 0.5)
REPEATS = 3


@dataclass
class _Waiting(ShardWorker):
    """Waits as long as its speed makes an image last."""

    seconds: float

    def process(self, shard: Shard, advance: Advance) -> ShardResult:
        time.sleep(self.seconds * len(shard.image_ids))
        advance(len(shard.image_ids))
        return ShardResult(counts={"images": len(shard.image_ids)})


def _make(stage: str, barrier: Any, place: Place) -> _Waiting:
    del stage
    barrier.wait()
    return _Waiting(SECONDS / SPEEDS[place.index])


def measure() -> float:
    """Seconds from the start of the last worker to the last result."""
    context = get_context("spawn")
    with context.Manager() as manager, TemporaryDirectory() as folder:
        barrier = manager.Barrier(len(SPEEDS))
        shards = make_shards(range(IMAGES))
        job = ShardJob("waiting", f"{__name__}:_make", barrier, Path(folder), [])
        results = run_shards([Shard(-1, ()), *shards], job, len(SPEEDS), lambda count: None)
        next(results)  # an empty shard: every worker is up
        start = time.perf_counter()
        done = [marker.counts["images"] for _, marker in results]
        if sum(done) != IMAGES:
            raise SystemExit(f"{sum(done)} of {IMAGES} images were done")
        return time.perf_counter() - start


def main() -> None:
    """Run a few times and report the median."""
    ideal = IMAGES * SECONDS / sum(SPEEDS)
    times = sorted(measure() for _ in range(REPEATS))
    middle = times[len(times) // 2]
    print(f"ideal {ideal:.2f} s, measured {', '.join(f'{t:.2f}' for t in times)} s")
    report("uneven_workers", ideal / middle, 1 / 1.05, f"{IMAGES} images done once each")


if __name__ == "__main__":
    main()
