"""The engine ``local``: shards over this machine's processes.

One worker runs in this process; more run in spawned ones that ask this one for shards. A worker is
made in the process where it runs, because models cannot be sent to another. It writes its shards
itself; only markers and counts of images come back.
"""

from __future__ import annotations

import threading
import traceback
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

from s4m_pipeline.artifacts.shards import Shard, ShardMarker
from s4m_pipeline.devices.placement import Place
from s4m_pipeline.errors import S4MError
from s4m_pipeline.execution.base import Advance, ShardJob, write_shards
from s4m_pipeline.execution.processes import Helper, HelperEndedError, end_all, with_messages
from s4m_pipeline.system_errors import told

_ASKS = "a shard, please"
"""What a worker says when it has room for a shard. The answer is one, or None after the last."""


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
        S4MError: A worker failed, and the message is the worker's; or its process was ended.
    """
    if workers <= 1 or len(shards) <= 1:
        if shards:
            yield from write_shards(job, Place(), shards, advance)
        return
    yield from _run_processes(shards, job, min(workers, len(shards)), advance)


def _run_processes(
    shards: Sequence[Shard], job: ShardJob, workers: int, advance: Advance
) -> Iterator[tuple[Shard, ShardMarker]]:
    crew: list[_Worker] = []
    try:
        for index in range(workers):
            crew.append(_Worker(Helper(_work, (job, Place(index, workers)))))
        yield from _messages(crew, shards, advance)
    except HelperEndedError as ended:
        raise S4MError(
            f"a worker process ended with exit code {ended.exit_code} (out of memory?)"
        ) from ended
    finally:
        end_all(worker.helper for worker in crew)


@dataclass(eq=False, slots=True)
class _Worker:
    """A worker's process, and what is between it and this one.

    Attributes:
        helper: The process.
        shards: How many shards it has.
        may_end: Whether it knows that there is no other.
    """

    helper: Helper
    shards: int = 0
    may_end: bool = False

    def give(self, shard: Shard | None) -> None:
        """Answer it: with a shard, or with None where none is left."""
        self.shards += shard is not None
        self.may_end = shard is None
        self.helper.send(shard)


def _messages(
    crew: Sequence[_Worker], shards: Sequence[Shard], advance: Advance
) -> Iterator[tuple[Shard, ShardMarker]]:
    """Give shards to those who ask, and take markers until there is one for each shard."""
    waiting, left = deque(shards), len(shards)
    at_work = {worker.helper: worker for worker in crew}
    while left:
        for helper in with_messages(at_work):
            worker = at_work[helper]
            try:
                message = helper.receive()
            except HelperEndedError:
                if worker.shards or not worker.may_end:
                    raise
                del at_work[helper]
                continue
            if message == _ASKS:
                worker.give(waiting.popleft() if waiting else None)
            elif isinstance(message, int):
                advance(message)
            elif isinstance(message, _Failure):
                raise message.error
            else:
                worker.shards -= 1
                left -= 1
                yield message


class _Line:
    """A worker's line to the process that started it; safe in any thread."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe, self._lock = pipe, threading.Lock()

    def say(self, message: Any) -> None:
        """Send a message to which no answer comes."""
        with self._lock:
            self._pipe.send(message)

    def shards(self) -> Iterator[Shard]:
        """Ask for shards, one after another, until none is left."""
        while True:
            with self._lock:
                self._pipe.send(_ASKS)
                shard = self._pipe.recv()
            if shard is None:
                return
            yield shard


def _work(pipe: Connection, job: ShardJob, place: Place) -> None:
    line = _Line(pipe)
    try:
        for shard_and_marker in write_shards(job, place, line.shards(), line.say):
            line.say(shard_and_marker)
    except S4MError as error:
        line.say(_Failure(error))
    except Exception as error:
        if refused := told(error, [job.folder], job.folder):
            line.say(_Failure(refused))
            return
        where = traceback.format_exc().strip().splitlines()[-2].strip()
        line.say(_Failure(S4MError(f"a worker failed: {type(error).__name__}: {error} ({where})")))
