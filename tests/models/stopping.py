"""Trainings that are stopped from the outside, and what they end with."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from torch import Tensor

from s4m_pipeline.models.checkpoints import read_checkpoint


class Stopped(BaseException):
    """Ends a training from the outside, as an interrupt does."""


def stop_after(count: int) -> Callable[[int, dict[str, float]], None]:
    """An ``on_step`` that stops the training when so many iterations are done."""

    def on_step(iteration: int, _losses: dict[str, float]) -> None:
        if iteration == count:
            raise Stopped

    return on_step


def weights(path: Path) -> dict[str, Tensor]:
    """A checkpoint's averaged weights and its last ones, by name."""
    stored = read_checkpoint(path)
    assert stored.source_weights is not None
    return {
        **{f"averaged {k}": v for k, v in stored.weights.items()},
        **{f"last {k}": v for k, v in stored.source_weights.items()},
    }
