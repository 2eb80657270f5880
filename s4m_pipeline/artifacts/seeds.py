"""Random numbers that depend on what they are drawn for, never on who draws them first."""

from __future__ import annotations

from typing import TYPE_CHECKING

from s4m_pipeline.artifacts.fingerprint import digest_of

if TYPE_CHECKING:
    import numpy as np


def seed_of(seed: int, *key: str | int) -> int:
    """Mix a run's seed with a key such as ``("pseudo-label", image_id, instance_id)``.

    Returns:
        A non-negative 63-bit integer.
    """
    return int(digest_of([seed, *key])[:16], 16) >> 1


def rng(seed: int, *key: str | int) -> np.random.Generator:
    """Make the random generator that belongs to ``seed`` and ``key``."""
    import numpy as np  # late: `s4m status` answers without numpy

    return np.random.default_rng(seed_of(seed, *key))
