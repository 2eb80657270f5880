"""Work done ahead of its consumer, results in the jobs' order. No torch."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Job = TypeVar("Job")
Result = TypeVar("Result")


def done_ahead(
    function: Callable[[Job], Result], jobs: Iterable[Job], threads: int, ahead: int
) -> Generator[Result, None, None]:
    """Do jobs in threads while the consumer works on earlier results.

    Meant for functions that leave Python's lock for most of their time, such as the decoding of
    images or a network on a GPU; unlike processes, threads hand their results over without a copy.
    An iterator that is closed, or left by an exception, has no thread when that returns: jobs
    under way are waited for, those not begun are dropped.

    Args:
        function: Called once for each job.
        jobs: Taken one by one as there is room.
        threads: How many.
        ahead: Most jobs begun whose results are not yet taken; bounds the memory.

    Yields:
        Each job's result, in the order of the jobs.

    Raises:
        Exception: What the function raised, in the place of its job's result, with the traceback
            it had in the thread; or what the jobs raised, after the results of those before.
    """
    pool = ThreadPoolExecutor(threads, thread_name_prefix="ahead")
    waiting: deque[Future[Result]] = deque()
    failed = _Failed()
    try:
        for job in failed.watch(jobs):
            waiting.append(pool.submit(function, job))
            if len(waiting) >= ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
        failed.raise_again()
    finally:
        pool.shutdown(cancel_futures=True)


def one_ahead(begin: Callable[[Job], Result], jobs: Iterable[Job]) -> Iterator[Result]:
    """Begin each job before the result of the one before it is handed over.

    Meant for jobs that a device goes on with by itself: it has the next one while the consumer
    works on what it made of the last.

    Args:
        begin: Called once for each job; what it returns may still be in the making.
        jobs: Taken one by one.

    Yields:
        What ``begin`` returned, in the order of the jobs.

    Raises:
        Exception: What ``begin`` or the jobs raised, after the results of the jobs before.
    """
    waiting: deque[Result] = deque()
    failed = _Failed()
    for job in failed.watch(jobs):
        try:
            waiting.append(begin(job))
        except Exception as error:
            failed.error = error
            break
        del job  # not to be kept while the next one is begun
        if len(waiting) > 1:
            yield waiting.popleft()
    while waiting:
        yield waiting.popleft()
    failed.raise_again()


class _Failed:
    """What ended some jobs before their time, kept until what was begun before is done."""

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
