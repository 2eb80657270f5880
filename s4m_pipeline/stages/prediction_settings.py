"""What is stored of a network's predictions, and the points drawn from them."""

from __future__ import annotations

from dataclasses import dataclass

from s4m_pipeline.config import RunConfig


@dataclass(frozen=True, slots=True)
class PredictionSettings:
    """What a prediction must reach to be stored, and the points drawn from it.

    Attributes:
        seed: The run's.
        min_score: The least score that is stored.
        points: Prompt points drawn an instance.
    """

    seed: int
    min_score: float
    points: int

    @classmethod
    def of(cls, config: RunConfig) -> PredictionSettings:
        """Take them from a run's configuration."""
        section = config.pseudo_label
        return cls(config.seed, section.min_score, section.points)
