"""COCO's ways to write a mask, checked and turned into compressed RLE. No torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from pycocotools import mask as mask_api

from s4m_pipeline.data.formats.coco.values import Box, is_finite

LEAST_SIDE = 8
"""Pixels; in a smaller image, polygons from 0 to 1 may well be meant in pixels."""
BEYOND = 0.05
"""How far shares of an image's sides may lie below 0 or above 1, where a mask touches an edge."""


class NormalisedPolygonsError(ValueError):
    """Polygons in shares of the image's sides, 0 to 1, where pixels are expected."""


def encode_segmentation(segmentation: Any, height: int, width: int) -> bytes:
    """Turn an annotation's segmentation into COCO's compressed RLE counts.

    Args:
        segmentation: A list of polygons (x, y pairs in pixels), or an RLE of either kind.
        height: The image's height in pixels.
        width: The image's width in pixels.

    Raises:
        ValueError: It is none of these, or its numbers make no sense; the message says what.
    """
    check_segmentation(segmentation, height, width)
    if isinstance(segmentation, list):
        drawn = mask_api.frPyObjects(segmentation, height, width)
        merged = drawn[0] if len(drawn) == 1 else mask_api.merge(drawn)
        return bytes(merged["counts"])
    counts = segmentation["counts"]
    if isinstance(counts, list):
        coded = mask_api.frPyObjects({"size": [height, width], "counts": counts}, height, width)
        return bytes(coded["counts"])
    return counts.encode() if isinstance(counts, str) else bytes(counts)


def check_segmentation(segmentation: Any, height: int, width: int) -> None:
    """Check that a segmentation can be encoded, without drawing it; see ``encode_segmentation``."""
    if isinstance(segmentation, list):
        _check_polygons(segmentation, height, width)
    elif isinstance(segmentation, dict):
        _check_rle(segmentation, height, width)
    else:
        raise ValueError("no segmentation (neither polygons nor RLE)")


def bbox_areas(rles: Sequence[bytes], height: int, width: int) -> tuple[list[Box], list[int]]:
    """Take boxes (x, y, width, height in pixels) and areas from masks."""
    if not rles:
        return [], []
    coded = as_coco_rles(rles, height, width)
    boxes = [(float(x), float(y), float(w), float(h)) for x, y, w, h in mask_api.toBbox(coded)]
    return boxes, mask_areas(coded)


def mask_areas(coded: Sequence[dict[str, Any]]) -> list[int]:
    """Take the areas in pixels of masks as pycocotools' dicts.

    One by one, because pycocotools fails on more than 255 masks at once under numpy 2.
    """
    return [int(mask_api.area(mask)) for mask in coded]


def as_coco_rles(rles: Sequence[bytes], height: int, width: int) -> list[dict[str, Any]]:
    """Wrap RLE counts as the dicts that pycocotools takes."""
    return [{"size": [height, width], "counts": counts} for counts in rles]


def polygon_fault(polygon: Any, height: int, width: int) -> str | None:
    """Say what is wrong with one polygon, or None when it can be drawn."""
    if not isinstance(polygon, list) or not all(is_finite(value) for value in polygon):
        return "bad polygon: not a list of finite numbers"
    if len(polygon) < 6:
        return f"bad polygon: {len(polygon)} numbers, three points need 6"
    if len(polygon) % 2:
        return f"bad polygon: {len(polygon)} numbers do not make x, y pairs"
    xs, ys = polygon[0::2], polygon[1::2]
    if min(xs) < -width or max(xs) > 2 * width or min(ys) < -height or max(ys) > 2 * height:
        return f"bad polygon: points far outside the image of {width} x {height} pixels"
    return None


def _check_polygons(polygons: list[Any], height: int, width: int) -> None:
    if not polygons:
        raise ValueError("bad polygon: the list of polygons is empty")
    for polygon in polygons:
        fault = polygon_fault(polygon, height, width)
        if fault is not None:
            raise ValueError(fault)
    if min(height, width) < LEAST_SIDE:
        return
    if all(min(polygon) >= -BEYOND and max(polygon) <= 1 + BEYOND for polygon in polygons):
        raise NormalisedPolygonsError(
            "bad polygon: all its numbers lie from 0 to 1, as shares of the image's sides do; "
            f"pixels are expected (x times {width}, y times {height})"
        )


def _check_rle(rle: Mapping[str, Any], height: int, width: int) -> None:
    size, counts = rle.get("size"), rle.get("counts")
    if not isinstance(size, (list, tuple)) or list(size) != [height, width]:
        raise ValueError(f"bad RLE: its size is {size}, the image's [{height}, {width}]")
    if isinstance(counts, list):
        if not all(isinstance(run, int) and run >= 0 for run in counts):
            raise ValueError("bad RLE: its counts are not whole numbers")
        if sum(counts) != height * width:
            raise ValueError(f"bad RLE: {sum(counts)} pixels, the image has {height * width}")
        return
    if not isinstance(counts, (str, bytes)):
        raise ValueError("bad RLE: no counts")
    runs = decode_runs(counts.encode() if isinstance(counts, str) else counts)
    if any(run < 0 for run in runs) or sum(runs) != height * width:
        raise ValueError(f"bad RLE: its runs do not make {height * width} pixels")


def decode_runs(counts: bytes) -> list[int]:
    """Read the run lengths out of compressed RLE counts.

    Each number is written in groups of five bits, lowest first, 32 marking that more follow and
    16 in the last group the sign; from the fourth run on, differences to the run two before.

    Raises:
        ValueError: The bytes are not such a code.
    """
    codes = np.frombuffer(counts, np.uint8).astype(np.int64) - 48
    if len(codes) == 0 or codes.min() < 0 or codes.max() > 63 or codes[-1] & 32:
        raise ValueError("bad RLE: its counts are not compressed run lengths")
    runs: list[int] = []
    value, shift = 0, 0
    for code in codes.tolist():
        value |= (code & 31) << shift
        shift += 5
        if code & 32:
            continue
        if code & 16:
            value -= 1 << shift
        runs.append(value + runs[-2] if len(runs) > 2 else value)
        value, shift = 0, 0
    return runs
