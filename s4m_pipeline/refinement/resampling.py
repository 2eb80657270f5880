"""Bilinear sampling of small maps on the pixels of a window, without the rest of the image."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

PIXELS_AT_ONCE = 1 << 16
"""Pixels whose values are computed together where only their signs are kept."""


@dataclass(frozen=True, slots=True)
class Window:
    """A rectangle of pixels: columns x .. x + width, rows y .. y + height (ends excluded)."""

    x: int
    y: int
    width: int
    height: int

    @property
    def empty(self) -> bool:
        """Whether it holds no pixel."""
        return self.width <= 0 or self.height <= 0

    @property
    def cells(self) -> tuple[slice, slice]:
        """Its rows and columns, to take it from a map."""
        return slice(self.y, self.y + self.height), slice(self.x, self.x + self.width)

    def holds(self, points: np.ndarray) -> np.ndarray:
        """Which points lie in it: bool (...) for x and y, (..., 2)."""
        x, y = points[..., 0] - self.x, points[..., 1] - self.y
        return np.asarray((x >= 0) & (y >= 0) & (x < self.width) & (y < self.height))


def union(a: Window, b: Window) -> Window:
    """The smallest window that holds both; an empty one counts for nothing."""
    if a.empty or b.empty:
        return b if a.empty else a
    x, y = min(a.x, b.x), min(a.y, b.y)
    right, bottom = max(a.x + a.width, b.x + b.width), max(a.y + a.height, b.y + b.height)
    return Window(x, y, right - x, bottom - y)


def intersection(a: Window, b: Window) -> Window:
    """The pixels in both windows."""
    x, y = max(a.x, b.x), max(a.y, b.y)
    right, bottom = min(a.x + a.width, b.x + b.width), min(a.y + a.height, b.y + b.height)
    return Window(x, y, max(0, right - x), max(0, bottom - y))


def reach(cells: np.ndarray, rate_y: float, rate_x: float, height: int, width: int) -> Window:
    """Pixels whose bilinear sample touches at least one of the marked cells.

    Args:
        cells: bool (h, w), the marked cells.
        rate_y: Cells per pixel along y.
        rate_x: Cells per pixel along x.
        height: The image's height in pixels.
        width: The image's width in pixels.

    Returns:
        Their window, clipped to the image.
    """
    return window_of(bounds(cells), rate_y, rate_x, height, width)


def bounds(cells: np.ndarray) -> Window:
    """The smallest rectangle of cells that holds all marked ones of a bool (h, w) map."""
    rows, columns = np.flatnonzero(cells.any(1)), np.flatnonzero(cells.any(0))
    if not len(rows):
        return Window(0, 0, 0, 0)
    y, x = int(rows[0]), int(columns[0])
    return Window(x, y, int(columns[-1]) + 1 - x, int(rows[-1]) + 1 - y)


def window_of(cells: Window, rate_y: float, rate_x: float, height: int, width: int) -> Window:
    """Pixels whose bilinear sample touches a rectangle of cells; the rest as in `reach`."""
    if cells.empty:
        return Window(0, 0, 0, 0)
    y0, y1 = _span(cells.y, cells.y + cells.height - 1, rate_y, height)
    x0, x1 = _span(cells.x, cells.x + cells.width - 1, rate_x, width)
    return Window(x0, y0, max(0, x1 - x0), max(0, y1 - y0))


def _span(first: int, last: int, rate: float, size: int) -> tuple[int, int]:
    start = math.floor((first - 0.5) / rate - 0.5)
    stop = math.ceil((last + 1.5) / rate - 0.5) + 1
    return max(0, start), min(size, stop)


def pixel_positions(start: int, count: int, rate: float) -> np.ndarray:
    """Where the centres of pixels lie among cell centres.

    Args:
        start: The first pixel.
        count: How many pixels.
        rate: Cells per pixel.

    Returns:
        float32 (count,), in cells; cell c has its centre at c. Rounded as torch's
        `interpolate(align_corners=False)` rounds.
    """
    pixels = np.arange(start, start + count, dtype=np.float32) + np.float32(0.5)
    return pixels * np.float32(rate) - np.float32(0.5)


def bilinear(source: np.ndarray, ys: np.ndarray, xs: np.ndarray) -> np.ndarray:
    """Sample a map on a lattice; beyond its outermost cell centres it is constant.

    Args:
        source: float32 (h, w).
        ys: float32 (Y,), rows of the lattice in cells (centres at whole numbers).
        xs: float32 (X,), columns of the lattice in cells.

    Returns:
        float32 (Y, X) in column-major order, so that its columns are contiguous.
    """
    if not len(ys) or not len(xs):
        return np.zeros((len(ys), len(xs)), np.float32, order="F")
    return _between(*_columns(source, ys, xs)).T


def bilinear_above(source: np.ndarray, ys: np.ndarray, xs: np.ndarray, level: float) -> np.ndarray:
    """Where `bilinear` is above a level, computed a few columns at a time, within the cache.

    Args:
        source: float32 (h, w).
        ys: float32 (Y,), rows of the lattice in cells (centres at whole numbers).
        xs: float32 (X,), columns of the lattice in cells.
        level: The level.

    Returns:
        bool (Y, X) in column-major order.
    """
    above = np.empty((len(xs), len(ys)), bool)
    if above.size:
        columns, left, right, weight = _columns(source, ys, xs)
        step = max(1, PIXELS_AT_ONCE // len(ys))
        for start in range(0, len(xs), step):
            part = slice(start, start + step)
            values = _between(columns, left[part], right[part], weight[part])
            np.greater(values, level, out=above[part])
    return above.T


def _columns(
    source: np.ndarray, ys: np.ndarray, xs: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """The source's columns sampled at the rows, (C, Y), and where between them columns lie."""
    top, bottom, weight_y = _taps(ys, source.shape[0])
    left, right, weight_x = _taps(xs, source.shape[1])
    first = int(left.min())
    source = source[:, first : int(right.max()) + 1]
    rows = source[top] + (source[bottom] - source[top]) * weight_y[:, None]
    return np.ascontiguousarray(rows.T), left - first, right - first, weight_x


def _between(
    columns: np.ndarray, left: np.ndarray, right: np.ndarray, weight: np.ndarray
) -> np.ndarray:
    """float32 (X, Y), one row for each column of the lattice."""
    out = columns[right]
    start = columns[left]
    out -= start
    out *= weight[:, None]
    out += start
    return out


def _taps(at: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    at = np.clip(at, 0, size - 1).astype(np.float32)
    low = at.astype(np.intp)
    return low, np.minimum(low + 1, size - 1), at - low.astype(np.float32)
