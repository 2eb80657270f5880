"""Masks as COCO's compressed run-length encoding, made from crops."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import rlemasklib
from pycocotools import mask as mask_api

Bbox = tuple[float, float, float, float]


def _as_dict(rle: bytes, height: int, width: int) -> dict:
    return {"size": [height, width], "counts": rle}


def encode_crop(crop: np.ndarray, x: int, y: int, height: int, width: int) -> bytes:
    """Encode a mask that is given by a crop and empty outside it.

    Args:
        crop: bool (h, w); fastest in column-major order.
        x: The crop's first column in the image.
        y: The crop's first row in the image.
        height: The image's height in pixels.
        width: The image's width in pixels.

    Returns:
        COCO's compressed counts of the (height, width) mask.

    Raises:
        ValueError: The crop does not lie inside the image.
    """
    h, w = crop.shape
    right, bottom = width - x - w, height - y - h
    if min(x, y, right, bottom) < 0:
        raise ValueError(f"a {h} x {w} crop at ({x}, {y}) leaves the {height} x {width} image")
    if not crop.size:
        encoded = rlemasklib.zeros((height, width))
        return bytes(rlemasklib.compress(encoded)["counts"])
    encoded = rlemasklib.RLEMask.from_array(np.asfortranarray(crop, dtype=bool))
    if x or y or right or bottom:
        encoded.pad(y, bottom, x, right, inplace=True)
    return bytes(encoded.to_dict()["counts"])


def bbox_area(rle: bytes, height: int, width: int) -> tuple[Bbox, int]:
    """A mask's bounding box (x, y, width, height in pixels) and its area in pixels.

    An empty mask has the box (0, 0, 0, 0).
    """
    encoded = _as_dict(rle, height, width)
    area = int(rlemasklib.area(encoded))
    if not area:
        return (0.0, 0.0, 0.0, 0.0), 0
    x, y, w, h = (float(v) for v in rlemasklib.to_bbox(encoded))
    return (x, y, w, h), area


def iou(a: bytes, b: bytes, height: int, width: int) -> float:
    """Intersection over union of two masks of one image; 0 where both are empty."""
    first, second = _as_dict(a, height, width), _as_dict(b, height, width)
    if not rlemasklib.area(first) and not rlemasklib.area(second):
        return 0.0
    return float(rlemasklib.iou([first, second]))


def pairwise_iou(rles: Sequence[bytes], height: int, width: int) -> np.ndarray:
    """float64 (N, N): intersection over union of each two of N masks of one image."""
    return _pairwise(rles, height, width, crowd=0)


def pairwise_containment(rles: Sequence[bytes], height: int, width: int) -> np.ndarray:
    """float64 (N, N): intersection of each two of N masks over the area of the smaller."""
    shares = _pairwise(rles, height, width, crowd=1)  # over the area of the row's mask
    return np.maximum(shares, shares.T)


def _pairwise(rles: Sequence[bytes], height: int, width: int, crowd: int) -> np.ndarray:
    if not rles:
        return np.zeros((0, 0))
    encoded = [_as_dict(rle, height, width) for rle in rles]
    return np.asarray(mask_api.iou(encoded, encoded, [crowd] * len(encoded)))


def difference(a: bytes, b: bytes, height: int, width: int) -> bytes:
    """The pixels of a that are not in b, as COCO's compressed counts."""
    rest = rlemasklib.difference(_as_dict(a, height, width), _as_dict(b, height, width))
    return bytes(rest["counts"])


def merge(a: bytes, b: bytes, height: int, width: int) -> bytes:
    """The pixels in either of two masks, as COCO's compressed counts."""
    both = rlemasklib.union([_as_dict(a, height, width), _as_dict(b, height, width)])
    return bytes(both["counts"])


def contains(rle: bytes, points: np.ndarray, height: int, width: int) -> np.ndarray:
    """Whether a mask holds the pixels in which points lie.

    Args:
        rle: COCO's compressed counts.
        points: float (P, 2), x and y in pixels; pixel p reaches from p to p + 1. Those outside
            the image count as on its edge.
        height: The image's height in pixels.
        width: The image's width in pixels.

    Returns:
        bool (P,).
    """
    runs = rlemasklib.decompress(_as_dict(rle, height, width))["ucounts"]
    x, y = np.clip(np.floor(points), 0, [width - 1, height - 1]).astype(np.int64).T
    ends = np.cumsum(runs, dtype=np.int64)
    return np.searchsorted(ends, x * height + y, side="right") % 2 == 1
