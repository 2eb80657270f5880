"""How structural targets are made, and how large they are."""

from __future__ import annotations

from dataclasses import dataclass

from s4m_pipeline.config import RunConfig


@dataclass(frozen=True, slots=True)
class TargetSettings:
    """How structural targets are made.

    Attributes:
        points: Query points an image.
        grid: Cells of a map in each direction.
        seed: The run's seed.
    """

    points: int
    grid: int
    seed: int

    @classmethod
    def of(cls, config: RunConfig) -> TargetSettings:
        """Take them from a run's configuration."""
        return cls(config.structure.points, config.structure.grid, config.seed)


def map_bytes(config: RunConfig) -> int:
    """Bytes of an image's structural maps: one for each cell."""
    return config.structure.points * config.structure.grid**2
