"""Errors of trainings whose losses or weights are not finite. Needs no torch."""

from __future__ import annotations

from s4m_pipeline.errors import S4MError


class NotFiniteError(ArithmeticError):
    """A training step computed something that is not finite; the message names it."""


class DivergedError(S4MError):
    """A training that cannot go on because its losses or weights are not finite."""
