"""Prompts for training the demo's segmenter, drawn from true masks as the pipeline would draw them.

The pipeline prompts with points, boxes and masks that come from a teacher's rough masks: points
lie mostly inside an object, boxes are a little off, masks have lost or gained a rim.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

MAX_POINTS = 5

KINDS: dict[str, float] = {
    "points": 0.50,
    "box": 0.15,
    "box+points": 0.12,
    "box+mask": 0.09,
    "points+mask": 0.08,
    "box+points+mask": 0.06,
}
"""Prompt kind -> share of the training prompts."""


@dataclass(slots=True)
class Prompt:
    """One prompt in input pixels.

    Attributes:
        points: float32 (2 + MAX_POINTS, 2) x, y: two box corners, then points.
        labels: int32 (2 + MAX_POINTS,): 2 and 3 for the corners, 1 for a point, -1 for none.
        mask: float32 (S / 2, S / 2) logits, or None.
    """

    points: np.ndarray
    labels: np.ndarray
    mask: np.ndarray | None


def draw_points(rng: np.random.Generator, mask: np.ndarray, count: int, soft: bool) -> np.ndarray:
    """Draw pixels of an object.

    Args:
        rng: Random generator.
        mask: bool (S, S), not empty.
        count: Number of points.
        soft: Draw by the odds of a blurred mask, as from a teacher's soft mask; else uniformly.

    Returns:
        float32 (count, 2) x, y in pixels.
    """
    if soft:
        blurred = cv2.GaussianBlur(mask.astype(np.float32), (0, 0), rng.uniform(1.5, 4.0))
        weights = np.where(blurred > 0.2, blurred, 0.0)
        if not weights.any():
            weights = mask.astype(np.float32)
        weights = (weights / (1.05 - weights)).ravel()
    else:
        weights = mask.astype(np.float32).ravel()
    cumulated = np.cumsum(weights, dtype=np.float64)
    cells = np.searchsorted(cumulated, rng.random(count) * cumulated[-1], side="right")
    y, x = np.divmod(np.minimum(cells, mask.size - 1), mask.shape[1])
    return np.stack([x, y], axis=1).astype(np.float32)


def jitter_box(rng: np.random.Generator, mask: np.ndarray, amount: float) -> np.ndarray:
    """Bounding box of a mask, each side moved at random.

    Args:
        rng: Random generator.
        mask: bool (S, S), not empty.
        amount: Largest move, as a share of the box's side.

    Returns:
        float32 (4,) x0, y0, x1, y1 in pixels, inside the image.
    """
    ys, xs = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    box = np.array([xs[0], ys[0], xs[-1] + 1, ys[-1] + 1], np.float32)
    sides = np.tile(box[2:] - box[:2], 2)
    moved = box + rng.uniform(-amount, amount, 4) * sides
    return np.clip(moved, 0, mask.shape[0]).astype(np.float32)


def coarsen(rng: np.random.Generator, mask: np.ndarray) -> np.ndarray:
    """Rough logits of a mask: shifted, blurred, with a rim lost or gained and parts missing.

    Returns:
        float32 (S / 2, S / 2) logits.
    """
    size = mask.shape[0]
    shift_x, shift_y = rng.uniform(-3.0, 3.0, 2)
    move = np.array([[1, 0, shift_x], [0, 1, shift_y]], np.float32)
    rough = cv2.warpAffine(mask.astype(np.float32), move, (size, size))
    rough = cv2.GaussianBlur(rough, (0, 0), rng.uniform(1.0, 5.0))
    noise = rng.random((8, 8), dtype=np.float32)
    bumps = cv2.resize(noise, (size, size), interpolation=cv2.INTER_CUBIC) - 0.5
    rough = rough + bumps * np.float32(rng.uniform(0.0, 0.5))
    small = cv2.resize(rough, (size // 2, size // 2), interpolation=cv2.INTER_AREA)
    logits = (small - rng.uniform(0.35, 0.65)) * rng.uniform(6.0, 30.0)
    return np.clip(logits, -12.0, 12.0).astype(np.float32)


def draw_prompt(rng: np.random.Generator, mask: np.ndarray) -> Prompt:
    """Draw one prompt of a random kind for an object.

    Args:
        rng: Random generator.
        mask: bool (S, S), not empty.
    """
    kind = list(KINDS)[int(rng.choice(len(KINDS), p=list(KINDS.values())))].split("+")
    points = np.zeros((2 + MAX_POINTS, 2), np.float32)
    labels = np.full(2 + MAX_POINTS, -1, np.int32)
    if "box" in kind:
        points[:2] = jitter_box(rng, mask, 0.08).reshape(2, 2)
        labels[:2] = (2, 3)
    if "points" in kind:
        count = int(rng.choice([1, 2, 3, 4, 5], p=[0.15, 0.15, 0.4, 0.15, 0.15]))
        points[2 : 2 + count] = draw_points(rng, mask, count, soft=bool(rng.random() < 0.5))
        labels[2 : 2 + count] = 1
    return Prompt(points, labels, coarsen(rng, mask) if "mask" in kind else None)
