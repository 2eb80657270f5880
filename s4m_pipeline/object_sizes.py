"""COCO's size classes of an instance: small, medium, large, by the area of its mask."""

from __future__ import annotations

SIZES = ("small", "medium", "large")
SMALL_AREA, MEDIUM_AREA = 32**2, 96**2
"""Pixels from which a mask is medium, and from which it is large."""


def size_of(area: float) -> str:
    """The size class of a mask's area in pixels."""
    if area < SMALL_AREA:
        return "small"
    return "medium" if area < MEDIUM_AREA else "large"
