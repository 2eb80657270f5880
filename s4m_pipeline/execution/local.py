"""The engine ``local``: shards over this machine's processes.

One worker runs in this process; more run in spawned ones that take shards from a queue. A worker is
made in the process where it runs, because models cannot be sent to another. It writes its shards
itself; only markers and counts of images come back.
"""

from __future__ import annotations

import multiprocessing
import queue
import signal
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from s4m_pipeline.artifacts.shards import Shard, ShardMarker
from s4m_pipeline.devices.placement import Place
from s4m_pipeline.errors import S4MError
from s4m_pipeline.execution.base import Advance, ShardJob, write_shards


@dataclass(frozen=True, slots=True)
class _Failure:
    error: Exception


def run_shards(
    shards: Sequence[Shard], job: ShardJob, workers: int, advance: Advance
) -> Iterator[tuple[Shard, ShardMarker]]:
    """Process shards; see `s4m_pipeline.execution.base.Engine`.

    Args:
        shards: The shards to process.
        job: What is done with them.
        workers: Number of processes; 1 works in this one.
        advance: Progress callback, called in this process.

    Yields:
        Each shard with its marker as it is written, in any order.

    Raises:
        S4MError: A worker failed; the message is the worker's.
    """
    if workers <= 1 or len(shards) <= 1:
        if shards:
            yield from write_shards(job, Place(), shards, advance)
        return
    yield from _run_processes(shards, job, min(workers, len(shards)), advance)


def _run_processes(
    shards: Sequence[Shard], job: ShardJob, workers: int, advance: Advance
) -> Iterator[tuple[Shard, ShardMarker]]:
    context = multiprocessing.get_context("spawn")
    tasks: Any = context.Queue()
    results: Any = context.Queue()
    for shard in shards:
        tasks.put(shard)
    for _ in range(workers):
        tasks.put(None)
    processes = [
        context.Process(
            target=_work, args=(job, Place(index, workers), tasks, results), daemon=True
        )
        for index in range(workers)
    ]
    for process in processes:
        process.start()
    try:
        left = len(shards)
        while left:
            message = _next_message(results, processes)
            if isinstance(message, int):
                advance(message)
            elif isinstance(message, _Failure):
                raise message.error
            else:
                left -= 1
                yield message
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.join()


def _next_message(results: Any, processes: Sequence[Any]) -> Any:
    while True:
        try:
            return results.get(timeout=1.0)
        except queue.Empty:
            dead = [p.exitcode for p in processes if p.exitcode not in (None, 0)]
            if dead:
                raise S4MError(
                    f"a worker process ended with exit code {dead[0]} (out of memory?)"
                ) from None


def _work(job: ShardJob, place: Place, tasks: Any, results: Any) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends its workers
    try:
        for shard_and_marker in write_shards(job, place, iter(tasks.get, None), results.put):
            results.put(shard_and_marker)
    except S4MError as error:
        results.put(_Failure(error))
    except Exception as error:
        where = traceback.format_exc().strip().splitlines()[-2].strip()
        results.put(
            _Failure(S4MError(f"a worker failed: {type(error).__name__}: {error} ({where})"))
        )
