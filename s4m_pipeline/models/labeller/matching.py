"""Which sightings of different views are of the same instance.

By falling score, a sighting joins the instance of its class whose first, surest sighting it
overlaps most, if that is by more than ``MIN_IOU`` and no sighting of the same view is in it.
Otherwise it begins an instance of its own. As all views are taken together, none comes first.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from s4m_pipeline.models.labeller.sightings import Sighting
from s4m_pipeline.refinement.rle import encode_crop, pairwise_iou

MIN_IOU = 0.5
"""Two sightings of an instance overlap by more than this, on the shared cells above one half."""


def matched(sightings: Sequence[Sighting], shape: tuple[int, int]) -> list[list[int]]:
    """Bring the sightings of a picture together.

    Args:
        sightings: Those of all views.
        shape: Rows and columns of the shared cells.

    Returns:
        The instances, each the numbers of its sightings, the surest one first.
    """
    by_class: dict[int, list[int]] = {}
    for number, sighting in enumerate(sightings):
        by_class.setdefault(sighting.label, []).append(number)
    return [
        group
        for label in sorted(by_class)
        for group in _of_class(sightings, by_class[label], shape)
    ]


def _of_class(
    sightings: Sequence[Sighting], numbers: Sequence[int], shape: tuple[int, int]
) -> list[list[int]]:
    """The instances of one class."""
    ranked = sorted(numbers, key=lambda number: -sightings[number].score)
    ious = pairwise_iou([_encoded(sightings[n], shape) for n in ranked], *shape)
    views = np.array([sightings[number].view for number in ranked])
    firsts: list[int] = []
    seen = np.zeros((len(ranked), views.max() + 1), bool)  # by instance and view
    groups: list[list[int]] = []
    for place, view in enumerate(views):
        overlap = np.where(seen[: len(firsts), view], 0.0, ious[place, firsts])
        best = int(overlap.argmax()) if len(firsts) else 0
        if not len(firsts) or overlap[best] <= MIN_IOU:
            best = len(firsts)
            firsts.append(place)
            groups.append([])
        seen[best, view] = True
        groups[best].append(ranked[place])
    return groups


def _encoded(sighting: Sighting, shape: tuple[int, int]) -> bytes:
    return encode_crop(sighting.mask > 0.5, sighting.cells.x, sighting.cells.y, *shape)
