"""Checks of one annotation's segmentation, area and bbox. No torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from s4m_pipeline.data.check.faults import FaultCounter
from s4m_pipeline.data.formats.coco.segmentation import (
    NormalisedPolygonsError,
    bbox_areas,
    encode_segmentation,
)
from s4m_pipeline.data.formats.coco.values import Box, is_finite

AREA_TOLERANCE = 0.1
"""How far the area of polygons may be from their mask's, as a share and at least in 10 pixels; that
of an RLE may be off by one pixel."""
BBOX_TOLERANCE = 0.05
"""How far a bbox's edge may be from its mask's, as a share of the side and at least in 2 pixels."""
LEAST_WIDTH = 0.01
"""Pixels; a polygon whose points all lie this near to one line has no width."""


def check_mask(
    entry: Mapping[str, Any], height: int, width: int, name: str, faults: FaultCounter
) -> None:
    """Check an annotation's mask, and what the annotation says of it.

    Args:
        entry: The annotation.
        height: Its image's height in pixels.
        width: Likewise the width.
        name: How to name the annotation.
        faults: Where to count what is wrong.
    """
    degenerate = degenerate_polygon(entry.get("segmentation"))
    try:
        rle = encode_segmentation(entry.get("segmentation"), height, width)
    except NormalisedPolygonsError as error:
        faults.add("normalised-polygon", f"{name}: {error}")
        return
    except ValueError as error:
        if degenerate is not None:
            faults.add("degenerate-polygon", f"{name}: {degenerate}")
        if degenerate is None:
            faults.add("bad-segmentation", f"{name}: {error}")
        return
    if degenerate is not None:
        faults.add("degenerate-polygon", f"{name}: {degenerate}")
    boxes, areas = bbox_areas([rle], height, width)
    if areas[0] == 0:
        faults.add("empty-mask", name)
        return
    area: Any = entry.get("area")
    is_rle = isinstance(entry.get("segmentation"), dict)
    near = 1 if is_rle else max(10, AREA_TOLERANCE * areas[0])
    if not is_finite(area) or not (area > 0 and abs(area - areas[0]) <= near):  # nor a NaN
        faults.add("wrong-area", f"{name}: {area}, its mask has {areas[0]}")
    bounds = _bounds(entry.get("segmentation"))
    if not any(_same_box(entry.get("bbox"), box) for box in (boxes[0], *bounds)):
        mask_box = [int(value) for value in boxes[0]]
        faults.add("wrong-bbox", f"{name}: {entry.get('bbox')}, its mask's is {mask_box}")


def degenerate_polygon(segmentation: Any) -> str | None:
    """Say what is degenerate about the first such polygon of a segmentation; None without any."""
    for polygon in segmentation if isinstance(segmentation, list) else []:
        if not isinstance(polygon, list) or not all(is_finite(value) for value in polygon):
            continue
        if len(polygon) % 2:
            continue
        if len(polygon) < 6:
            return f"a polygon of {len(polygon) // 2} points"
        with np.errstate(over="ignore", invalid="ignore"):
            width = _width(polygon)
        if width < LEAST_WIDTH:
            return f"a polygon of {len(polygon) // 2} points on one line"
    return None


def _width(polygon: Sequence[float]) -> float:
    """How far a polygon's points are from the line through two of them that lie far apart.

    NaN for numbers too large to tell; such points are far outside any image.
    """
    points = np.asarray(polygon, np.float64).reshape(-1, 2)
    offsets = points - points[0]
    far = offsets[np.hypot(*offsets.T).argmax()]
    length = float(np.hypot(*far))
    if length == 0:
        return 0.0
    return float(np.abs(offsets[:, 0] * far[1] - offsets[:, 1] * far[0]).max()) / length


def _bounds(segmentation: Any) -> list[Box]:
    """The box around all polygons, whose thin tips may fill no pixel; none for an RLE."""
    if not isinstance(segmentation, list):
        return []
    points = np.concatenate([np.asarray(polygon, np.float64) for polygon in segmentation])
    left, top = points[0::2].min(), points[1::2].min()
    return [(left, top, points[0::2].max() - left, points[1::2].max() - top)]


def _same_box(bbox: Any, box: Box) -> bool:
    """Whether a bbox, x, y, width and height in pixels, has its edges where the mask's has them."""
    if not isinstance(bbox, list) or len(bbox) != 4 or not all(is_finite(v) for v in bbox):
        return False
    edges = (
        (bbox[0], box[0], box[2]),
        (bbox[1], box[1], box[3]),
        (bbox[0] + bbox[2], box[0] + box[2], box[2]),
        (bbox[1] + bbox[3], box[1] + box[3], box[3]),
    )
    return all(abs(a - b) <= max(2.0, BBOX_TOLERANCE * side) for a, b, side in edges)
