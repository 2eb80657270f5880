"""Which predictions become labels: those above their class's score and large enough."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from s4m_pipeline.refinement.reasons import Cause, Reason, compared


def drop_cause(row: Mapping[str, Any], score: float, min_area: float) -> Cause | None:
    """Why a prediction becomes no label; None when it does.

    Args:
        row: A row of ``predictions``, of which ``score`` and ``soft_mask`` are read.
        score: The score that it must be above.
        min_area: What the sum of its mask's probabilities must be above, in cells of the soft mask
            (docs/method.md, "Pseudo-label refinement").
    """
    if row["score"] <= score:
        return Cause.of(Reason.SCORE, compared=compared("score", row["score"], "<=", score))
    area = mask_cells(row["soft_mask"])
    if area <= min_area:
        text = compared("area", area, "<=", min_area, decimals=1)
        return Cause.of(Reason.AREA, compared=text)
    return None


def mask_cells(soft_mask: bytes) -> float:
    """The sum of a stored soft mask's probabilities, in cells."""
    return float(np.frombuffer(soft_mask, dtype=np.uint8).sum(dtype=np.int64)) / 255
