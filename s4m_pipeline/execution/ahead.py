"""Work done ahead of its consumer, results in the jobs' order. No torch."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Generic, TypeVar

Job = TypeVar("Job")
Result = TypeVar("Result")


DECODED_BYTES = 1 << 30
"""What decoded pictures may take where nothing else is said."""
WORKING = 3
"""How many times its result's bytes a job takes while it is at work: what decodes an image holds it
in a form of its own, too, and copies it."""


@dataclass(frozen=True, slots=True)
class Budget(Generic[Job]):
    """How many bytes may be taken by what is done ahead.

    Attributes:
        limit: Bytes in all. A job that needs more by itself is done alone.
        size: The bytes of a job's result.
    """

    limit: int
    size: Callable[[Job], int]


def done_ahead(
    function: Callable[[Job], Result],
    jobs: Iterable[Job],
    threads: int,
    ahead: int,
    budget: Budget[Job] | None = None,
) -> Generator[Result, None, None]:
    """Do jobs in threads while the consumer works on earlier results.

    Meant for functions that release the GIL most of the time, such as the decoding of images or a
    network on a GPU; unlike processes, threads hand their results over without a copy. Once the
    iterator is closed, or ended by an exception, no thread is left: jobs that are running are
    waited for, jobs that have not begun are dropped.

    Args:
        function: Called once for each job.
        jobs: Taken one by one as there is room.
        threads: How many threads.
        ahead: How many jobs may be begun whose results are not yet taken; bounds the memory.
        budget: Bounds the bytes of those as well.

    Yields:
        Each job's result, in the order of the jobs.

    Raises:
        Exception: What the function raised, in place of its job's result and with the traceback
            from the thread; or what ``jobs`` raised, after the results of the jobs before.
    """
    pool = ThreadPoolExecutor(threads, thread_name_prefix="ahead")
    waiting: deque[tuple[Future[Result], int]] = deque()
    failure = _Failure()
    try:
        for job in failure.watch(jobs):
            size = 0 if budget is None else budget.size(job)
            while budget is not None and waiting and _held(waiting) + WORKING * size > budget.limit:
                yield waiting.popleft()[0].result()
            waiting.append((pool.submit(function, job), size))
            if len(waiting) >= ahead:
                yield waiting.popleft()[0].result()
        while waiting:
            yield waiting.popleft()[0].result()
        failure.raise_again()
    finally:
        pool.shutdown(cancel_futures=True)


def _held(waiting: Iterable[tuple[Future[Result], int]]) -> int:
    """The bytes of results that wait, and of jobs at work or about to be."""
    return sum(size if future.done() else WORKING * size for future, size in waiting)


def one_ahead(begin: Callable[[Job], Result], jobs: Iterable[Job]) -> Iterator[Result]:
    """Begin each job before the result of the one before it is handed over.

    Meant for jobs that a device does by itself: it has the next job while the consumer works on
    the result of the last one.

    Args:
        begin: Called once for each job; what it returns may still be in the making.
        jobs: Taken one by one.

    Yields:
        What ``begin`` returned, in the order of the jobs.

    Raises:
        Exception: What ``begin`` or the jobs raised, after the results of the jobs before.
    """
    waiting: deque[Result] = deque()
    failure = _Failure()
    for job in failure.watch(jobs):
        try:
            waiting.append(begin(job))
        except Exception as error:
            failure.error = error
            break
        del job  # not to be kept while the next one is begun
        if len(waiting) > 1:
            yield waiting.popleft()
    while waiting:
        yield waiting.popleft()
    failure.raise_again()


class _Failure:
    """An exception among jobs, kept until the jobs begun before it are done."""

    def __init__(self) -> None:
        self.error: Exception | None = None

    def watch(self, items: Iterable[Job]) -> Iterator[Job]:
        """The items up to the failure; an interrupt is not held back."""
        try:
            yield from items
        except Exception as error:
            self.error = error

    def raise_again(self) -> None:
        """Raise what was kept, if anything."""
        if self.error is not None:
            raise self.error
