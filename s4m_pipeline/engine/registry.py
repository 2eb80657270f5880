"""Rounds: stages that recur, and which model stands before each round.

Round 1 is the plain run: the teacher labels, a student learns. In round r + 1 the student of round
r (its averaged weights) labels, and another student learns. A round is no setting: it shows in an
artifact's fingerprint through what the artifact was made of.
"""

from __future__ import annotations

from dataclasses import dataclass

from s4m_pipeline.engine.stage import Stage
from s4m_pipeline.errors import UsageError


@dataclass(frozen=True)
class OfRound(Stage):
    """A stage of one round.

    Attributes:
        round: From 1.
    """

    round: int = 1

    @property
    def kind(self) -> str:  # type: ignore[override]
        """Tells the rounds of a run apart; the first has no mark of its own."""
        return "" if self.round == 1 else f"round-{self.round}"

    @property
    def command(self) -> str:
        """Later rounds are made by ``run``."""
        return self.name if self.round == 1 else f"run --rounds {self.round}"

    @property
    def made_alone(self) -> bool:
        """``run`` makes all stages of all rounds."""
        return self.round == 1


def check_round(number: int) -> None:
    """Raise UsageError where a number is none of a round."""
    if number < 1:
        raise UsageError(f"there is no round {number}: rounds count from 1")


def model_of_round(number: int) -> Stage:
    """The training that a round ends with: 0 is the teacher's, r the student's of round r."""
    from s4m_pipeline.stages.train_student import TrainStudent
    from s4m_pipeline.stages.train_teacher import TrainTeacher

    return TrainTeacher() if number == 0 else TrainStudent(number)


def training_named(name: str) -> Stage | None:
    """The training that ``teacher``, ``student`` or ``student-2`` (of round 2) names, or None."""
    if name in ("teacher", "student"):
        return model_of_round(("teacher", "student").index(name))
    word, _, number = name.partition("-")
    if word == "student" and number.isdecimal() and int(number) > 1:
        return model_of_round(int(number))
    return None
