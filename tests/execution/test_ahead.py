"""Tests of work done ahead."""

import threading
import time
import weakref
from collections.abc import Iterator

import pytest

from s4m_pipeline.execution.ahead import WORKING, Budget, done_ahead, one_ahead


def test_results_come_in_the_jobs_order_though_the_first_ends_last():
    release = threading.Event()

    def work(job):
        if job == 0:
            release.wait(5)
        elif job == 3:
            release.set()
        return job * job

    assert list(done_ahead(work, range(10), threads=4, ahead=6)) == [n * n for n in range(10)]


def test_no_more_jobs_are_begun_than_may_wait():
    jobs = []
    results = done_ahead(jobs.append, iter(range(100)), threads=2, ahead=5)
    for taken in range(1, 20):
        next(results)
        assert len(jobs) <= taken + 5 - 1


def test_an_error_comes_in_its_jobs_place():
    def work(job):
        if job == 2:
            raise ValueError("job 2")
        return job

    results = done_ahead(work, range(5), threads=3, ahead=4)
    assert [next(results), next(results)] == [0, 1]
    with pytest.raises(ValueError, match="job 2"):
        next(results)


def test_closing_early_leaves_no_thread_behind():
    before = threading.active_count()
    results = done_ahead(lambda job: job, range(1000), threads=3, ahead=8)
    next(results)
    results.close()
    assert threading.active_count() == before


def test_the_next_job_is_begun_before_a_result_is_handed_over_and_no_other():
    events = []

    def begin(job):
        events.append(("begun", job))
        return job

    for result in one_ahead(begin, "abc"):
        events.append(("taken", result))
    assert events == [
        ("begun", "a"),
        ("begun", "b"),
        ("taken", "a"),
        ("begun", "c"),
        ("taken", "b"),
        ("taken", "c"),
    ]


def test_one_job_and_none_are_handed_over_too():
    assert list(one_ahead(str, [7])) == ["7"]
    assert list(one_ahead(str, [])) == []


class Batch:
    """A job that can be watched."""


def test_a_job_is_let_go_before_the_next_one_is_made():
    jobs, alive = [], []

    def batches():
        for _ in range(4):
            alive.append(sum(reference() is not None for reference in jobs))
            batch = [Batch()]
            jobs.append(weakref.ref(batch[0]))
            yield batch.pop()

    assert list(one_ahead(lambda batch: len(jobs), batches())) == [1, 2, 3, 4]
    assert alive == [0, 0, 0, 0]


def test_an_iterator_left_by_an_exception_has_no_thread_once_it_is_closed():
    before = threading.active_count()
    results = done_ahead(lambda job: 1 // (2 - job), range(100), threads=1, ahead=2)
    assert next(results) == 0
    assert next(results) == 1
    with pytest.raises(ZeroDivisionError) as caught:
        next(results)
    assert caught.value.__traceback__.tb_next.tb_next is not None  # the thread's frames
    assert threading.active_count() == before


@pytest.mark.parametrize("way", ["threads", "one ahead"])
def test_results_of_jobs_before_a_failing_one_come_first(way: str) -> None:
    def jobs() -> Iterator[int]:
        yield from range(5)
        raise ValueError("no more")

    if way == "threads":
        results = done_ahead(lambda job: 2 * job, jobs(), threads=2, ahead=4)
    else:
        results = one_ahead(lambda job: 2 * job, jobs())
    taken: list[int] = []
    with pytest.raises(ValueError, match="no more"):
        taken.extend(results)
    assert taken == [0, 2, 4, 6, 8]


def test_an_interrupt_is_not_held_back() -> None:
    def jobs() -> Iterator[int]:
        yield from range(3)
        raise KeyboardInterrupt

    results: list[int] = []
    with pytest.raises(KeyboardInterrupt):
        results.extend(one_ahead(lambda job: job, jobs()))
    assert results == [0, 1]


@pytest.mark.parametrize("limit", [1, 300, 1000, 10**9])
def test_a_budget_bounds_the_bytes_of_what_is_begun_and_not_taken(limit):
    size, lock = 100, threading.Lock()
    held, most = [0], [0]

    def work(job):
        with lock:  # from when it is at work on
            held[0] += size
            most[0] = max(most[0], held[0])
        time.sleep(0.002)
        return job

    taken = []
    for result in done_ahead(work, range(40), 4, 16, Budget(limit, lambda job: size)):
        with lock:
            held[0] -= size
        taken.append(result)
        time.sleep(0.001)
    assert taken == list(range(40))
    assert most[0] <= max(limit, size)


def test_results_that_wait_weigh_less_than_jobs_at_work():
    begun = []
    results = done_ahead(begun.append, range(20), 4, 16, Budget(WORKING + 3, lambda job: 1))
    next(results)
    assert len(begun) <= 5  # up to three wait beside the one at work
    list(results)
    assert sorted(begun) == list(range(20))


def test_without_sizes_a_budget_changes_nothing():
    begun = []
    results = done_ahead(begun.append, iter(range(100)), 2, 5, Budget(1, lambda job: 0))
    next(results)
    results.close()
    assert len(begun) <= 5
