"""Which predictions of a network are stored, and how many points are drawn from them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from s4m_pipeline.config import RunConfig
from s4m_pipeline.config_section import result_settings
from s4m_pipeline.stages.teachers import labelling_settings

PREDICTION_BYTES = 20_000
"""About what an image's stored predictions take: some ten instances of 2 KB."""


@dataclass(frozen=True, slots=True)
class PredictionSettings:
    """Which predictions are stored, and how many points are drawn from them.

    Attributes:
        seed: The run's seed.
        min_score: The least score that is stored.
        points: Prompt points an instance.
    """

    seed: int
    min_score: float
    points: int

    @classmethod
    def of(cls, config: RunConfig) -> PredictionSettings:
        """Take them from a run's configuration."""
        section = config.pseudo_label
        return cls(config.seed, section.min_score, section.points)


def prediction_settings(config: RunConfig, alone: bool = False) -> dict[str, Any]:
    """The settings that change stored predictions, for a fingerprint.

    Args:
        config: The run's configuration.
        alone: Whether one model predicts in one view, whatever the configuration says.
    """
    section = result_settings(config.pseudo_label)
    return {
        "seed": config.seed,
        "min_score": section["min_score"],
        "points": section["points"],
        **({} if alone else labelling_settings(config)),
    }
