"""Which predictions become labels: those above their class's score and large enough."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from s4m_pipeline.refinement.reasons import compared


def drop_reason(row: Mapping[str, Any], score: float, min_area: float) -> str:
    """Why a prediction becomes no label; empty when it does.

    ``min_area`` is compared with the sum of the mask's probabilities, in cells (docs/method.md,
    "Pseudo-label refinement").
    """
    if row["score"] <= score:
        return compared("score", row["score"], "<=", score)
    area = mask_cells(row["soft_mask"])
    if area <= min_area:
        return f"{compared('area', area, '<=', min_area, decimals=1)} cells"
    return ""


def mask_cells(soft_mask: bytes) -> float:
    """The sum of a stored soft mask's probabilities, in cells."""
    import numpy as np

    return float(np.frombuffer(soft_mask, dtype=np.uint8).sum(dtype=np.int64)) / 255
