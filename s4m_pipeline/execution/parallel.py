"""Work on many small jobs in several processes, results in the jobs' order. No torch."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol, TypeVar

from s4m_pipeline.errors import S4MError

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
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(processes, context, initializer=_leave_interrupts)
    waiting: deque[Future[Result]] = deque()
    try:
        for job in jobs:
            waiting.append(pool.submit(function, job))
            if len(waiting) >= AHEAD * processes:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    except BrokenProcessPool as error:
        raise S4MError(
            "a worker process died, perhaps for lack of memory; --processes 1 uses none"
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def _leave_interrupts() -> None:
    """Ignore Ctrl-C: the main process handles it and ends the workers."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
