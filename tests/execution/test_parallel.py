"""Work in processes: order, laziness, errors."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from s4m_pipeline.errors import S4MError, UsageError
from s4m_pipeline.execution.parallel import AHEAD, default_processes, work_through


def _square(number: int) -> tuple[int, int]:
    return number * number, os.getpid()


def _refuse(number: int) -> int:
    if number == 3:
        raise UsageError("three is not wanted")
    return number


def _die(number: int) -> int:
    os._exit(number)


def test_results_come_in_order_from_other_processes() -> None:
    drawn = []

    def jobs() -> Iterator[int]:
        for number in range(20):
            drawn.append(number)
            yield number

    results = work_through(_square, jobs(), 2)
    first = next(results)
    assert len(drawn) <= 2 * AHEAD
    squares = [first, *results]
    assert [square for square, _ in squares] == [n * n for n in range(20)]
    assert os.getpid() not in {process for _, process in squares}
    assert {process for _, process in work_through(_square, range(3), 1)} == {os.getpid()}


@pytest.mark.parametrize("processes", [1, 2])
def test_an_error_is_the_users(processes: int) -> None:
    with pytest.raises(UsageError, match="three is not wanted"):
        list(work_through(_refuse, range(5), processes))


def test_a_process_that_dies_is_told() -> None:
    with pytest.raises(S4MError, match="worker process died"):
        list(work_through(_die, range(1, 3), 2))


def test_default_is_what_can_be_used() -> None:
    assert 1 <= default_processes() <= 16
