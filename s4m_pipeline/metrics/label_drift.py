"""How labels of the same images differ: what stayed, changed its class, came and went. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from s4m_pipeline.data.image_set import Instance
from s4m_pipeline.metrics.matching import TRUE, Label, match_labels, overlaps

NO_BOX = (0.0, 0.0, 0.0, 0.0)
"""Only masks are compared."""


class Drift:
    """Adds up what changed, image by image.

    A label stayed where it matches one of before, as ``match_labels`` has it: of its class, with a
    mask IoU above one half. Of the labels that are left, those whose masks match so with one of any
    class changed their class. All others came, or went.
    """

    def __init__(self) -> None:
        self._ious: list[float] = []
        self._counts = {"changed_class": 0, "came": 0, "went": 0}

    def add(self, before: Sequence[Label], now: Sequence[Label], size: tuple[int, int]) -> None:
        """Count an image.

        Args:
            before: Its labels.
            now: Its labels now.
            size: Its height and width in pixels.
        """
        old = [Instance(x.category_id, x.rle, NO_BOX, 0, False) for x in before]
        ious = overlaps(now, old, size)
        same = match_labels(now, old, ious)
        stayed = same.flags == TRUE
        self._ious += same.ious[stayed].tolist()
        left: list[int] = np.flatnonzero(~stayed).tolist()
        free: list[int] = np.setdiff1d(np.arange(len(old)), same.partners[stayed]).tolist()
        anyway = match_labels(
            [now[place]._replace(category_id=0) for place in left],
            [Instance(0, old[place].rle, NO_BOX, 0, False) for place in free],
            ious[np.ix_(left, free)],
        )
        changed = int((anyway.flags == TRUE).sum())
        self._counts["changed_class"] += changed
        self._counts["came"] += len(left) - changed
        self._counts["went"] += len(free) - changed

    def figures(self) -> dict[str, Any]:
        """The counts ``stayed``, ``changed_class``, ``came`` and ``went``.

        ``mean_iou`` is of the masks that stayed with what they were; None where none did.
        """
        mean = float(np.mean(self._ious)) if self._ious else None
        return {"stayed": len(self._ious), **self._counts, "mean_iou": mean}
