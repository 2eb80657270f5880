"""What structural targets are made with, and what they take."""

from __future__ import annotations

from dataclasses import dataclass

from s4m_pipeline.config import RunConfig


@dataclass(frozen=True, slots=True)
class TargetSettings:
    """What structural targets are made with.

    Attributes:
        points: Query points an image.
        grid: Cells of a map in each direction.
        seed: The run's.
    """

    points: int
    grid: int
    seed: int

    @classmethod
    def of(cls, config: RunConfig) -> TargetSettings:
        """Take them from a run's configuration."""
        return cls(config.structure.points, config.structure.grid, config.seed)


def map_bytes(config: RunConfig) -> int:
    """Bytes of an image's structural maps: one a cell."""
    return config.structure.points * config.structure.grid**2
