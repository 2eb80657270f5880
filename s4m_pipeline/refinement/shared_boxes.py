"""Which instances share a window, so that few windows show all of them closely."""

from __future__ import annotations

import numpy as np

ROUNDING = 1.0
"""Pixels that a window is wider than what it holds, so that whole pixels hold it too."""
Shared = list[tuple[np.ndarray, float]]
"""For each window the box that it holds, float (4,), and its side."""


def shared_boxes(boxes: np.ndarray, sides: np.ndarray, wider: float) -> Shared:
    """Bring instances together in windows.

    They are laid in shelves from the top, in shelves from the left, and in clusters. The fewest are
    taken, in this order where numbers are equal.

    Args:
        boxes: float (N, 4), x0, y0, x1, y1 of each instance with its context, at least one.
        sides: float (N,), the widest window that is close enough to each, which holds it.
        wider: By how much windows may be wider than that.
    """
    ways = [_shelves(boxes, sides, wider, axis) for axis in (1, 0)]
    return min([*ways, _clusters(boxes, sides, wider)], key=len)


def _shelves(boxes: np.ndarray, sides: np.ndarray, wider: float, axis: int) -> Shared:
    """Boxes that share a window, and the side of each window.

    The closest view that anyone left needs says how large the next windows are. Of those that fit,
    the one that begins first opens a shelf, and windows are laid side by side until it is empty.

    Args:
        boxes: As for `shared_boxes`, with sides and wider.
        sides: See there.
        wider: See there.
        axis: 1 for shelves from the top, 0 from the left.
    """
    start, end = axis, axis + 2
    across, beyond = 1 - axis, 3 - axis
    extents = (boxes[:, 2:] - boxes[:, :2]).max(1) + ROUNDING
    left, out = np.ones(len(boxes), bool), []
    while left.any():
        side = float(sides[left].min()) * wider
        fits = left & (extents <= side)
        ends = boxes[:, end] - boxes[fits, start].min()
        shelf = fits & (boxes[:, start] >= boxes[fits, start].min()) & (ends + ROUNDING <= side)
        left &= ~shelf
        while shelf.any():
            ends = boxes[:, beyond] - boxes[shelf, across].min()
            taken = shelf & (ends + ROUNDING <= side)
            box = np.concatenate([boxes[taken, :2].min(0), boxes[taken, 2:].max(0)])
            out.append(_fitted(box, sides[taken], side))
            shelf &= ~taken
    return out


def _clusters(boxes: np.ndarray, sides: np.ndarray, wider: float) -> Shared:
    """As `_shelves`; here the one that needs the closest view takes those nearest to it along."""
    middles = (boxes[:, :2] + boxes[:, 2:]) / 2
    left, out = np.ones(len(boxes), bool), []
    while left.any():
        first = int(np.where(left, sides, np.inf).argmin())
        side = float(sides[first]) * wider
        distances = np.where(left, abs(middles - middles[first]).max(1), np.inf)
        near = np.argsort(distances, kind="stable")[: int((distances <= side).sum())]
        low, high = boxes[first, :2].tolist(), boxes[first, 2:].tolist()
        for x0, y0, x1, y1 in boxes[near].tolist():
            own_low, own_high = (
                [min(low[0], x0), min(low[1], y0)],
                [max(high[0], x1), max(high[1], y1)],
            )
            if max(own_high[0] - own_low[0], own_high[1] - own_low[1]) + ROUNDING <= side:
                low, high = own_low, own_high
        box = np.array([*low, *high])
        taken = left & (boxes[:, :2] >= box[:2]).all(1) & (boxes[:, 2:] <= box[2:]).all(1)
        out.append(_fitted(box, sides[taken], side))
        left &= ~taken
    return out


def _fitted(box: np.ndarray, sides: np.ndarray, most: float) -> tuple[np.ndarray, float]:
    """A box and the side of its window: no wider than its instances and their closeness need."""
    needed = max(float(sides.min()), float((box[2:] - box[:2]).max()) + ROUNDING)
    return box, min(most, needed)
