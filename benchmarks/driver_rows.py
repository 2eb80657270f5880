"""What rows cost the process that drives the workers (row 19): markers instead of tables.

Four workers make rows of the ``structure`` table at 256 x 64 x 64, a megabyte each. Naively they
hand their rows to the driving process, which writes all shards; ours write their own and hand over
a marker. Both ways write the same bytes, which is checked. Processor time of the driving process is
what bounds the rows a second of however many workers: that is the ratio. Rows a second as they came
out here are printed too; with fewer cores than workers they say little.
"""

from __future__ import annotations

import hashlib
import multiprocessing
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from harness import report

from s4m_pipeline.artifacts.shards import Shard, ShardResult, make_shards, write_shard
from s4m_pipeline.devices.placement import Place
from s4m_pipeline.execution.base import Advance, ShardJob, ShardWorker
from s4m_pipeline.execution.local import run_shards

NAME = "driver_rows"
POINTS, GRID = 256, 64
IMAGES, SHARD, WORKERS = 128, 8, 4
GOAL = 20
CATEGORIES = [{"id": 1, "name": "thing"}]


class Maps(ShardWorker):
    """Makes maps out of a few waves, which compress about as real ones do."""

    def __init__(self, stage: str, grid: tuple[int, int], place: Place) -> None:
        del stage, place
        self._points, self._grid = grid

    def process(self, shard: Shard, advance: Advance) -> ShardResult:
        """Rows of ``structure`` for a shard's images."""
        rows = [self._row(image_id) for image_id in shard.image_ids]
        advance(len(rows))
        return ShardResult({"structure": rows, "quarantine": []}, {"images": len(rows)})

    def _row(self, image_id: int) -> dict[str, Any]:
        generator = np.random.default_rng(image_id)
        x = np.arange(self._grid, dtype=np.float32)
        rate, phase = generator.uniform(0.05, 0.4, (2, self._points, 1)).astype(np.float32)
        one, other = np.sin(rate * x + phase), np.cos(phase * x + rate)
        maps = 127 * (1 + one[:, :, None] * other[:, None, :])
        return {
            "image_id": image_id,
            "file_name": f"{image_id}.png",
            "height": 480,
            "width": 640,
            "grid": self._grid,
            "points": generator.uniform(0, 480, 2 * self._points).astype(np.float32),
            "similarity": maps.astype(np.uint8).tobytes(),
            "scale": np.full(self._points, 1 / 127, np.float32),
            "offset": np.full(self._points, -1, np.float32),
        }


def _hand_over(grid: tuple[int, int], tasks: Any, results: Any) -> None:
    worker = Maps("structure", grid, Place())
    for shard in iter(tasks.get, None):
        results.put((shard, worker.process(shard, lambda count: None)))
    results.put(None)


def naive(folder: Path, shards: list[Shard], workers: int) -> None:
    """The workers hand over rows; this process writes them."""
    context = multiprocessing.get_context("spawn")
    tasks: Any = context.Queue()
    results: Any = context.Queue()
    for shard in [*shards, *[None] * workers]:
        tasks.put(shard)
    arguments = ((POINTS, GRID), tasks, results)
    processes = [context.Process(target=_hand_over, args=arguments) for _ in range(workers)]
    for process in processes:
        process.start()
    ended = 0
    while ended < workers:
        message = results.get()
        if message is None:
            ended += 1
        else:
            write_shard(folder, *message, CATEGORIES)
    for process in processes:
        process.join()


def ours(folder: Path, shards: list[Shard], workers: int) -> None:
    """The workers write their shards; this process gets markers."""
    job = ShardJob("structure", f"{__name__}:Maps", (POINTS, GRID), folder, CATEGORIES)
    for _ in run_shards(shards, job, workers, lambda count: None):
        pass


def measured(way: Callable[[Path, list[Shard], int], None]) -> tuple[float, float, str]:
    """Wall seconds, this process's processor seconds, and a digest of the tables."""
    shards = make_shards(range(IMAGES), SHARD)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        wall, processor = time.perf_counter(), time.process_time()
        way(folder, shards, WORKERS)
        spent = time.perf_counter() - wall, time.process_time() - processor
        digest = hashlib.sha256()
        for path in sorted(folder.rglob("*.parquet")):
            digest.update(path.read_bytes())
        return *spent, digest.hexdigest()


def main() -> None:
    """Run both ways three times in turn and report."""
    runs: dict[str, list[tuple[float, float, str]]] = {"naive": [], "ours": []}
    for _ in range(3):
        runs["naive"].append(measured(naive))
        runs["ours"].append(measured(ours))
    if len({digest for several in runs.values() for *_, digest in several}) != 1:
        raise SystemExit(f"{NAME}: the tables differ")
    times = {
        name: sorted(processor for _, processor, _ in several) for name, several in runs.items()
    }
    for name, several in runs.items():
        wall = sorted(wall for wall, *_ in several)[1]
        each = times[name][1] / IMAGES
        print(
            f"{name}: {IMAGES / wall:.0f} rows a second with {WORKERS} workers, start included; "
            f"the driving process takes {1e3 * each:.3f} ms a row, so at most "
            f"{1 / each:,.0f} rows a second"
        )
    before, after = (times[name][1] for name in ("naive", "ours"))
    report(NAME, before / after, GOAL, "tables byte for byte", naive=before, ours=after)


if __name__ == "__main__":
    main()
