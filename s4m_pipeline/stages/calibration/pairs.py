"""Which predictions of a labelled image are measured, and against which true instance each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from s4m_pipeline.data.image_set import Instance
from s4m_pipeline.metrics.matching import Label, overlaps

MIN_OVERLAP = 0.1
"""The IoU above which a prediction is measured."""


@dataclass(slots=True)
class Pair:
    """A prediction, the true instance it is measured against, and their IoU."""

    row: dict[str, Any]
    truth: Instance
    iou: float


def overlapping(rows: Sequence[dict[str, Any]], truth: Sequence[Instance]) -> list[Pair]:
    """Pair an image's predictions with the true instances of their class that they overlap most.

    Unlike ``metrics.matching.match_labels``, two predictions may be paired with one instance: what
    refinement does to a mask is measured for each.

    Args:
        rows: Rows of ``predictions``.
        truth: The image's labelled instances; crowds are paired with none.

    Returns:
        A pair for each prediction whose IoU is above `MIN_OVERLAP`.
    """
    true = [instance for instance in truth if not instance.iscrowd]
    if not rows or not true:
        return []
    labels = [Label(row["category_id"], row["mask_rle"], row["score"]) for row in rows]
    ious = overlaps(labels, true, (rows[0]["height"], rows[0]["width"]))
    classes = np.array([instance.category_id for instance in true])
    pairs = []
    for row, of_row in zip(rows, ious, strict=True):
        own = np.where(classes == row["category_id"], of_row, 0.0)
        if own.max() > MIN_OVERLAP:
            pairs.append(Pair(row, true[int(own.argmax())], float(own.max())))
    return pairs
