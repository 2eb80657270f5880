"""A teacher's soft masks: how they are stored, read at pixels, and drawn from for prompt points."""

from __future__ import annotations

import math

import numpy as np

from s4m_pipeline.refinement.resampling import Window, bilinear, bounds, window_of

Box = tuple[int, int, int, int]

LEVELS = 255
LEAST_LOGIT = -math.log(LEVELS - 1) - 1e-3  # of 1/255, and room for rounding
SLACK = 0.2  # cells by which the far edge may be off
SMALLEST_UNIFORM = 2.0**-53  # above 0 of those that numpy draws
ROUNDING = 1e-2  # of a bound of logits in float32


def encode_soft_mask(prob: np.ndarray) -> tuple[bytes, Box]:
    """Store a probability map as uint8, cropped to where it is above 1/255.

    Args:
        prob: float (h, w), probabilities from 0 to 1 on the cells of the teacher's mask.

    Returns:
        The crop's uint8 values, row by row, and its x, y, width, height in cells
        (all 0 where nothing is above 1/255).
    """
    prob = np.asarray(prob, np.float32)
    window = bounds(prob > 1 / LEVELS)
    if window.empty:
        return b"", (0, 0, 0, 0)
    crop = np.clip(prob[window.cells], 0, 1)
    box = (window.x, window.y, window.width, window.height)
    return np.rint(crop * LEVELS).astype(np.uint8).tobytes(), box


def encode_soft_logits(logits: np.ndarray) -> tuple[bytes, Box]:
    """`encode_soft_mask` of the logits' sigmoid, which is computed only where it is not near 0.

    Args:
        logits: float (h, w), mask logits on the cells of the teacher's mask.

    Returns:
        As `encode_soft_mask`.
    """
    near = bounds(logits > LEAST_LOGIT)
    if near.empty:
        return b"", (0, 0, 0, 0)
    some = np.clip(logits[near.cells], -30, 30)
    data, (x, y, width, height) = encode_soft_mask(1 / (1 + np.exp(-some)))
    return data, (near.x + x, near.y + y, width, height) if width else (0, 0, 0, 0)


def decode_soft_mask(data: bytes, box: Box) -> np.ndarray:
    """The uint8 (height, width) crop that `encode_soft_mask` stored.

    Raises:
        ValueError: The bytes do not fit the box.
    """
    _, _, width, height = (int(v) for v in box)
    if len(data) != width * height:
        raise ValueError(f"a soft mask of {len(data)} bytes does not fit {height} x {width} cells")
    return np.frombuffer(data, np.uint8).reshape(height, width)


def soft_mask_to_pixels(
    crop: np.ndarray,
    box: Box,
    stride: float,
    height: int,
    width: int,
    window: Window | None = None,
) -> np.ndarray:
    """The teacher's probability at each pixel, bilinear between cell centres.

    Cell c covers the pixels from c * stride to (c + 1) * stride. Outside its crop the soft mask
    is 0; beyond the image's outermost cell centres it is constant.

    Args:
        crop: uint8 (h, w), the stored crop.
        box: x, y, width, height of the crop in cells.
        stride: Original pixels per cell.
        height: The image's height in pixels.
        width: The image's width in pixels.
        window: The pixels wanted; the whole image by default.

    Returns:
        float32, the window's (height, width), column-major.
    """
    window = window or Window(0, 0, width, height)
    ys = (np.arange(window.y, window.y + window.height, dtype=np.float32) + 0.5) / stride
    xs = (np.arange(window.x, window.x + window.width, dtype=np.float32) + 0.5) / stride
    return sample_soft_mask(crop, box, grid_shape(stride, height, width), ys, xs)


def grid_shape(stride: float, height: int, width: int) -> tuple[int, int]:
    """Rows and columns of cells that cover an image.

    One stride stands for both axes, though after a resize to whole pixels they differ a little: up
    to a fifth of a cell at the far edge is not counted.
    """
    rows, columns = (math.ceil(side / stride - SLACK) for side in (height, width))
    return max(rows, 1), max(columns, 1)


def sample_soft_mask(
    crop: np.ndarray, box: Box, grid: tuple[int, int], ys: np.ndarray, xs: np.ndarray
) -> np.ndarray:
    """Sample a stored soft mask on a lattice.

    Args:
        crop: uint8 (h, w), the stored crop.
        box: x, y, width, height of the crop in cells.
        grid: Rows and columns of the teacher's whole map.
        ys: (Y,), the lattice's rows in cells; cell c reaches from c to c + 1.
        xs: (X,), the lattice's columns in cells.

    Returns:
        float32 (Y, X), probabilities from 0 to 1, column-major.
    """
    x, y, width, height = (int(v) for v in box)
    if not width or not height:
        return np.zeros((len(ys), len(xs)), np.float32, order="F")
    top, left = int(y > 0), int(x > 0)
    bottom, right = int(y + height < grid[0]), int(x + width < grid[1])
    padded = np.pad(crop.astype(np.float32) / LEVELS, ((top, bottom), (left, right)))
    at_y = np.asarray(ys, np.float32) - np.float32(0.5 + y - top)
    at_x = np.asarray(xs, np.float32) - np.float32(0.5 + x - left)
    return bilinear(padded, at_y, at_x)


def soft_mask_window(cells: np.ndarray, box: Box, stride: float, height: int, width: int) -> Window:
    """Pixels whose values depend on the marked cells of a stored crop.

    Args:
        cells: bool (h, w), marked cells of the crop.
        box: x, y, width, height of the crop in cells.
        stride: Original pixels per cell.
        height: The image's height in pixels.
        width: The image's width in pixels.

    Returns:
        Their window, clipped to the image.
    """
    x, y, _, _ = (int(v) for v in box)
    marked = bounds(cells)
    placed = Window(x + marked.x, y + marked.y, marked.width, marked.height)
    return window_of(placed, 1 / stride, 1 / stride, height, width)


def draw_prompt_points(
    logits: np.ndarray,
    count: int,
    stride: float,
    height: int,
    width: int,
    rng: np.random.Generator,
) -> np.ndarray:
    """Draw cells without replacement from softmax(logits), as points at their centres.

    The softmax runs over all cells. Gumbel noise on the logits and the largest sums make the
    same distribution as drawing one after the other. Where the noise cannot bring a cell among
    the largest, it is not computed.

    Args:
        logits: float (h, w), the teacher's mask logits.
        count: How many points.
        stride: Original pixels per cell.
        height: The image's height in pixels.
        width: The image's width in pixels.
        rng: Source of the draw.

    Returns:
        float32 (count, 2), x and y in pixels, clipped to the image, in the order drawn; fewer
        rows where the map has fewer cells.
    """
    flat = np.asarray(logits).ravel()
    count = min(count, flat.size)
    uniform = rng.random(flat.size)
    cells = _likely_cells(flat, uniform, count)
    keys = flat[cells] + _gumbel(uniform[cells])
    best = cells[np.argsort(-keys, kind="stable")[:count]]
    y, x = np.divmod(best, logits.shape[1])
    points = np.stack([(x + 0.5) * stride, (y + 0.5) * stride], axis=1)
    return np.clip(points, 0, [width - 1, height - 1]).astype(np.float32)


def _gumbel(uniform: np.ndarray) -> np.ndarray:
    """Gumbel noise from uniform numbers, by numpy's formula: large where those are small."""
    return -np.log(-np.log(1 - np.maximum(uniform, SMALLEST_UNIFORM)))


def _likely_cells(flat: np.ndarray, uniform: np.ndarray, count: int) -> np.ndarray:
    """Cells that can be among the `count` with the largest sums of logit and noise, ascending.

    The sums near the highest logit bound the smallest of the largest sums from below. The smallest
    uniform number bounds all noise from above, and each cell's own bounds its noise: that of u is
    at most -log(u), since -log(1 - u) is at least u.
    """
    top, depth = float(flat.max(initial=-np.inf)), 1.0
    if not 0 < count < flat.size or not np.isfinite(top):
        return np.arange(flat.size)
    near = np.flatnonzero(flat >= top - depth)
    while len(near) < count:
        depth *= 2
        near = np.flatnonzero(flat >= top - depth)
    sums = flat[near] + _gumbel(uniform[near])
    bound = float(np.partition(sums, len(sums) - count)[len(sums) - count])
    most = float(_gumbel(uniform.min()))
    likely = np.flatnonzero(flat >= bound - most - ROUNDING)
    shares = np.exp(np.minimum(flat[likely] - np.float32(bound - ROUNDING), 0))
    return likely[np.maximum(uniform[likely], SMALLEST_UNIFORM) <= shares]
