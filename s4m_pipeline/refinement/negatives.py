"""Negative prompt points: where neighbouring instances are."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from s4m_pipeline.refinement.instances import TeacherInstance
from s4m_pipeline.refinement.resampling import Window
from s4m_pipeline.refinement.rle import contains, pairwise_containment

NEGATIVE, PADDING = 0, -1  # SAM's point labels
SAME_OBJECT = 0.5
"""Two predictions show one object where more than this share of the smaller is in the larger."""


def negative_points(
    instances: Sequence[TeacherInstance],
    count: int,
    height: int,
    width: int,
    view: Window | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Take points of each instance's neighbours that lie outside its own mask.

    A prediction that shares most of the smaller one's pixels is the same object again, and not a
    neighbour. Neighbours are ordered by the gap between the boxes, which is 0 where they touch or
    overlap, then by their place. Each gives its first stored point, then each its second, and so
    on.

    Args:
        instances: N instances of one image.
        count: At most how many points an instance.
        height: The image's height in pixels.
        width: The image's width in pixels.
        view: Only points within it are taken; the whole image by default.

    Returns:
        float32 (N, count, 2), x and y in pixels, and int32 (N, count) labels: 0, or -1 (at the
        end, at the origin) where there are too few.
    """
    points = np.zeros((len(instances), count, 2), np.float32)
    labels = np.full((len(instances), count), PADDING, np.int32)
    if not count or len(instances) < 2:
        return points, labels
    rles = [instance.mask_rle for instance in instances]
    apart = pairwise_containment(rles, height, width) <= SAME_OBJECT
    np.fill_diagonal(apart, False)
    gaps = box_gaps(np.array([i.bbox for i in instances], np.float64))
    stored = [np.asarray(i.points, np.float32).reshape(-1, 2) for i in instances]
    for row, instance in enumerate(instances):
        nearest = np.argsort(gaps[row], kind="stable")
        near = [stored[n] for n in nearest if instances[n].is_neighbour and apart[row, n]]
        if not near:
            continue
        theirs = _in_turns(near)
        if view is not None:
            theirs = theirs[view.holds(theirs)]
        outside = theirs[~contains(instance.mask_rle, theirs, height, width)][:count]
        points[row, : len(outside)] = outside
        labels[row, : len(outside)] = NEGATIVE
    return points, labels


def box_gaps(boxes: np.ndarray) -> np.ndarray:
    """Distance between the nearest points of each two boxes, 0 where they meet.

    Args:
        boxes: float (N, 4), x, y, width, height in pixels.

    Returns:
        float (N, N), in pixels.
    """
    low, high = boxes[:, :2], boxes[:, :2] + boxes[:, 2:]
    apart = np.maximum(low[:, None] - high[None], low[None] - high[:, None])
    return np.hypot(*np.moveaxis(np.maximum(apart, 0), 2, 0))


def _in_turns(groups: Sequence[np.ndarray]) -> np.ndarray:
    """The first point of each group, then the second of each that has one, and so on."""
    turns = np.concatenate([np.arange(len(points)) for points in groups])
    return np.concatenate(groups)[np.argsort(turns, kind="stable")]
