"""Trying again with less where memory runs out."""

from __future__ import annotations

import pytest
import torch

from s4m_pipeline.execution.memory import attempt


class Held:
    """What work has made when its memory runs out."""

    count = 0

    def __init__(self) -> None:
        Held.count += 1

    def __del__(self) -> None:
        Held.count -= 1


def without_room() -> None:
    made = Held()
    raise torch.OutOfMemoryError(f"no room beside {made}")


def test_what_failed_work_held_is_free_when_the_caller_goes_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    live: list[int] = []
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: live.append(Held.count))
    assert attempt(without_room, 2) is None
    assert live == [0]


def test_one_thing_that_does_not_fit_is_an_error() -> None:
    with pytest.raises(torch.OutOfMemoryError, match="no room"):
        attempt(without_room, 1)


def test_work_that_fits_is_done_once_and_other_errors_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: pytest.fail("memory sufficed"))
    assert attempt(lambda: 3, 2) == 3
    with pytest.raises(ZeroDivisionError):
        attempt(lambda: 1 // 0, 2)
