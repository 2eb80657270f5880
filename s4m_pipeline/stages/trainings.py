"""Which training stands at the end of a round, and what a training is called."""

from __future__ import annotations

from s4m_pipeline.engine.registry import stage_named
from s4m_pipeline.engine.stage import Stage


def training_of_round(number: int) -> Stage:
    """The training that a round ends with: 0 is the teacher's, r the student's of round r."""
    return stage_named("train-student", number) if number else stage_named("train-teacher")


def training_named(name: str) -> Stage | None:
    """The training that ``teacher``, ``student`` or ``student-2`` (of round 2) names, or None."""
    if name in ("teacher", "student"):
        return training_of_round(("teacher", "student").index(name))
    word, _, number = name.partition("-")
    if word == "student" and number.isdecimal() and int(number) > 1:
        return training_of_round(int(number))
    return None
