"""Which training stands at the end of a round, which one labels, and what a training is called."""

from __future__ import annotations

import re

from s4m_pipeline.engine.registry import stage_named
from s4m_pipeline.engine.stage import Stage

_STUDENT = re.compile(r"student(?:-([0-9]+))?(?:-refresh-([0-9]+))?")


def training_of_round(number: int) -> Stage:
    """The training that a round ends with: 0 is the teacher's, r the student's of round r."""
    return stage_named("train-student", number) if number else stage_named("train-teacher")


def labeller(number: int, refresh: int = 0) -> Stage:
    """The training whose averaged weights label the unlabelled images.

    Args:
        number: The round, from 1.
        refresh: The refresh in it; 0 for its first labels, which the round's teacher makes.
    """
    if refresh:
        return stage_named("train-student", number, refresh=refresh)
    return training_of_round(number - 1)


def training_named(name: str) -> Stage | None:
    """The training that a name stands for, or None.

    ``teacher``, ``student``, ``student-2`` (of round 2), ``student-refresh-1`` and
    ``student-2-refresh-1`` (the student as it stands at a refresh).
    """
    if name == "teacher":
        return training_of_round(0)
    match = _STUDENT.fullmatch(name)
    if match is None:
        return None
    number, refresh = (None if word is None else int(word) for word in match.groups())
    if (number is not None and number < 2) or refresh == 0:
        return None
    return stage_named("train-student", number or 1, refresh=refresh or 0)
