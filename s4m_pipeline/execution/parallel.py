"""Work on many small jobs in several processes, results in the jobs' order. No torch."""

from __future__ import annotations

import os
import pickle
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from multiprocessing.connection import Connection
from queue import Empty, LifoQueue
from typing import Any, Generic, Protocol, TypeVar

from s4m_pipeline.errors import S4MError
from s4m_pipeline.execution.ahead import done_ahead
from s4m_pipeline.execution.processes import Helper, HelperEndedError, end_all

Job = TypeVar("Job")
Result = TypeVar("Result")
AHEAD = 3
"""Jobs that wait for each process; more would only take memory."""
MOST_PROCESSES = 16


class Progress(Protocol):
    """Opens a progress display, as the terminal's reporter does."""

    def __call__(
        self, description: str, total: int, *, unit: str = "images"
    ) -> AbstractContextManager[Callable[[int, str], None]]:
        """Show ``total`` items; the callback takes the number of items just done, and a note."""


@contextmanager
def silent(
    description: str, total: int, *, unit: str = "images"
) -> Iterator[Callable[[int, str], None]]:
    """A progress display that shows nothing."""
    del description, total, unit

    def advance(count: int, note: str = "") -> None:
        del count, note

    yield advance


def default_processes() -> int:
    """How many processes to use where the user does not say: one for each usable processor core."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return max(1, min(MOST_PROCESSES, usable or 1))


def work_through(
    function: Callable[[Job], Result], jobs: Iterable[Job], processes: int
) -> Iterator[Result]:
    """Do jobs in other processes, a few ahead of the consumer.

    Args:
        function: A function at the top of a module.
        jobs: Picklable; taken one by one as there is room.
        processes: How many processes; 1 works in this one.

    Yields:
        Each job's result, in the order of the jobs.

    Raises:
        S4MError: A process died; or what the function raised.
    """
    if processes <= 1:
        for job in jobs:
            yield function(job)
        return
    pool = _Pool(function)
    try:
        with closing(done_ahead(pool.do, jobs, processes, AHEAD * processes)) as results:
            yield from results
    finally:
        pool.end()


class _Pool(Generic[Job, Result]):
    """Processes that do jobs, one for each thread that has some to do."""

    def __init__(self, function: Callable[[Job], Result]) -> None:
        self._function = function
        self._helpers: list[Helper] = []
        self._idle: LifoQueue[Helper] = LifoQueue()

    def do(self, job: Job) -> Result:
        """Have a process do a job; for threads.

        Raises:
            S4MError: The process died; or what the function raised.
        """
        try:
            helper = self._idle.get_nowait()
        except Empty:
            helper = Helper(_serve, (self._function,))
            self._helpers.append(helper)
        try:
            helper.send(job)
            result, error, there = helper.receive()
        except HelperEndedError as ended:
            raise S4MError(
                "a worker process died, perhaps for lack of memory; --processes 1 uses none"
            ) from ended
        self._idle.put(helper)
        if error is not None:
            raise error from _ElsewhereError(there)
        done: Result = result
        return done

    def end(self) -> None:
        """End the processes; no thread is at work any more."""
        end_all(self._helpers)


class _ElsewhereError(Exception):
    """Where an error was raised, as the process that raised it wrote it down."""


def _serve(pipe: Connection, function: Callable[[Any], Any]) -> None:
    """Do jobs as they come, in a process of its own: send each one's result, or its error."""
    while True:
        job = pipe.recv()
        try:
            answer = pickle.dumps((function(job), None, ""))
        except Exception as error:
            answer = pickle.dumps((None, _sendable(error), f"\n{traceback.format_exc()}"))
        pipe.send_bytes(answer)


def _sendable(error: Exception) -> Exception:
    """The error, or one of ours with its words where it cannot be sent to another process."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return S4MError(f"a worker failed: {type(error).__name__}: {error}")
    return error
