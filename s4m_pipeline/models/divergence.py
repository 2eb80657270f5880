"""Trainings whose figures are no numbers any more. No torch."""

from __future__ import annotations

from s4m_pipeline.errors import S4MError


class NotFiniteError(ArithmeticError):
    """Something that a training step computed is infinite or no number; the message names it."""


class DivergedError(S4MError):
    """A training that cannot go on because its losses or weights are not finite."""
