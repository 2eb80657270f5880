"""The legs of a student's training, between which its averaged weights label anew.

With ``student.refresh``, the training that ends a round is cut at each refresh: the leg up to
refresh k goes on from the leg before, learns from the labels of refresh k - 1 (0 are the round's
first ones) and leaves the averaged weights that label at refresh k. The leg after the last refresh
is the student itself, which has no number (0), like one that is not cut.
"""

from __future__ import annotations

from dataclasses import dataclass

from s4m_pipeline.config import RunConfig
from s4m_pipeline.errors import UsageError


@dataclass(frozen=True, slots=True)
class Leg:
    """A part of a student's training.

    Attributes:
        start: The iteration that it starts from.
        until: Where it ends before the training's end; None for the last one.
        before: The number of the leg before; None for the first one.
        labels: The refresh whose labels it learns from, unless these are not taken.
    """

    start: int
    until: int | None
    before: int | None
    labels: int


def leg_of(config: RunConfig, refresh: int) -> Leg:
    """The leg up to a refresh; for 0 the last one.

    Raises:
        UsageError: There is no such refresh.
    """
    check_refresh(config, refresh)
    ends = config.student.refreshes
    labels = refresh - 1 if refresh else len(ends)
    start = ends[labels - 1] if labels else 0
    return Leg(start, ends[refresh - 1] if refresh else None, labels or None, labels)


def refresh_numbers(config: RunConfig) -> range:
    """The numbers of a round's refreshes."""
    return range(1, len(config.student.refreshes) + 1)


def check_refresh(config: RunConfig, refresh: int) -> None:
    """Raise UsageError where a run has no refresh of a number; 0 stands for none."""
    count = len(config.student.refreshes)
    if 0 <= refresh <= count:
        return
    student = config.student
    if not count:
        raise UsageError(
            f"there is no refresh {refresh}: student.refresh is {student.refresh}, with "
            f"{student.iterations} iterations"
        )
    raise UsageError(
        f"there is no refresh {refresh}: student.refresh is {student.refresh}, which makes {count} "
        f"of them, the last at iteration {student.refreshes[-1]} of {student.iterations}"
    )
