"""Structural targets: how similar the segmenter's features are at a few points and everywhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from s4m_pipeline.devices.memory import attempt
from s4m_pipeline.devices.transfers import HostCopy, to_device
from s4m_pipeline.segmenter.base import Embeddings, Frame, Segmenter

LEVELS = 255
LEAST_LENGTH = 1e-12
GPU_POINTS = 32
"""Points in a pass on a GPU, unless told otherwise."""
CPU_PIXELS = 4 * 1024**2
"""Pixels of the segmenter's input that the points of a pass on a CPU come to, likewise."""


@dataclass(slots=True)
class StructureTarget:
    """Similarity maps of one image, stored as bytes.

    Attributes:
        points: float32 (P, 2), x and y of original pixels (whole numbers).
        similarity: uint8 (P, grid * grid), row by row over the whole image; the cosine
            similarity is offset + scale * similarity.
        scale: float32 (P,).
        offset: float32 (P,).
    """

    points: np.ndarray
    similarity: np.ndarray
    scale: np.ndarray
    offset: np.ndarray


@dataclass(frozen=True, slots=True)
class BegunTarget:
    """Similarity maps of one image that a GPU may still be working on.

    Attributes:
        points: float32 (P, 2), x and y of original pixels (whole numbers).
        similarity: Of uint8 (P, grid * grid); see `StructureTarget`.
        ranges: Of float32 (2, P), scales and offsets.
    """

    points: np.ndarray
    similarity: HostCopy
    ranges: HostCopy

    def collect(self) -> StructureTarget:
        """The maps, once they have arrived."""
        scale, offset = self.ranges.array().copy()  # so that a few values hold no pinned buffer
        return StructureTarget(self.points, self.similarity.array(), scale, offset)


def draw_query_points(
    union: np.ndarray | None,
    count: int,
    rng: np.random.Generator,
    size: tuple[int, int] | None = None,
) -> np.ndarray:
    """Draw query points: half from the union of the masks, half from the whole image.

    Args:
        union: bool (H, W), pixels of any instance; None or empty puts all points anywhere.
        count: How many points.
        rng: Source of the draw.
        size: Height and width of the image; needed where union is None.

    Returns:
        float32 (count, 2), x and y of pixels. The union's half is drawn without replacement. A
        union of fewer pixels is taken whole, and the rest is drawn from the image.

    Raises:
        ValueError: Neither union nor size is given.
    """
    if union is not None:
        height, width = union.shape
        inside = np.flatnonzero(union)
    elif size is not None:
        height, width = size
        inside = np.zeros(0, np.intp)
    else:
        raise ValueError("draw_query_points needs the union or the image's size")
    wanted = count // 2
    if len(inside) > wanted:
        inside = rng.choice(inside, wanted, replace=False)
    anywhere = rng.integers(0, height * width, count - len(inside))
    y, x = np.divmod(np.concatenate([inside, anywhere]), width)
    return np.stack([x, y], axis=1).astype(np.float32)


def structure_target(
    segmenter: Segmenter,
    embeddings: Embeddings,
    index: int,
    points: np.ndarray,
    grid: int,
    chunk: int | None = None,
) -> StructureTarget:
    """Cosine similarity of the cell at each point to every cell, on a lattice over the image.

    Each point prompts the segmenter alone; its features are the two-way transformer's image
    side. Padding of the model's input is cut away.

    Args:
        segmenter: The segmenter that encoded the image.
        embeddings: Of B images.
        index: Which of them.
        points: float32 (P, 2), x and y of original pixels (whole numbers).
        grid: Cells of the lattice along each side.
        chunk: Most points in one pass; None for what suits the device.
    """
    return begin_target(segmenter, embeddings, index, points, grid, chunk).collect()


@torch.inference_mode()
def begin_target(
    segmenter: Segmenter,
    embeddings: Embeddings,
    index: int,
    points: np.ndarray,
    grid: int,
    chunk: int | None = None,
) -> BegunTarget:
    """The first half of `structure_target`, with its arguments, which does not wait for a GPU.

    So the maps of several images, and the next images, can be asked for before these are taken.
    """
    chunk = chunk or _points_in_a_pass(segmenter)
    frame = embeddings.frames[index]
    side = embeddings.image.shape[-1]
    rows, columns = (
        to_device(_resize_weights(grid, valid, segmenter.image_size, side), segmenter.device)
        for valid in (frame.valid_height, frame.valid_width)
    )

    def resized_maps(some: np.ndarray) -> Tensor:
        features = segmenter.structure_features(embeddings, index, some)
        cells = to_device(_cells(some, frame, segmenter.image_size, side), segmenter.device)
        return rows @ _similarity(features, cells) @ columns.T

    maps = [rows.new_zeros(0, grid, grid), *_in_passes(segmenter, points, chunk, resized_maps)]
    similarity, ranges = _quantise(torch.cat(maps).flatten(1))
    return BegunTarget(np.asarray(points, np.float32), HostCopy(similarity), HostCopy(ranges))


def _in_passes(
    segmenter: Segmenter, points: np.ndarray, chunk: int, work: Callable[[np.ndarray], Tensor]
) -> Iterator[Tensor]:
    """What `work` gives for all points, `chunk` at a time, fewer where memory runs out."""
    start = 0
    while start < len(points):
        some = points[start : start + chunk]
        part = attempt(partial(work, some), len(some))
        if part is None:
            chunk = segmenter.most_points = len(some) // 2
            segmenter.warn(f"memory ran out: {chunk} points a pass")
            continue
        yield part
        start += len(some)


def _points_in_a_pass(segmenter: Segmenter) -> int:
    """On a CPU 4 at 1024 pixels and 16 at 512, so that what they make stays near its cache."""
    if segmenter.most_points is not None:
        return segmenter.most_points
    if segmenter.device.type != "cpu":
        return GPU_POINTS
    return max(1, CPU_PIXELS // segmenter.image_size**2)


def _similarity(features: Tensor, cells: Tensor) -> Tensor:
    """(P, C, h, w) and (P,) cells to the (P, h, w) cosine similarities."""
    flat = features.flatten(2)
    query = flat[torch.arange(len(flat), device=flat.device), :, cells]
    # the features are divided by their lengths last, where each has become one number
    lengths = torch.linalg.vector_norm(flat, dim=1).clamp_(min=LEAST_LENGTH)
    similarity = torch.bmm(F.normalize(query, dim=1)[:, None], flat)[:, 0] / lengths
    return similarity.unflatten(1, features.shape[2:])


def _cells(points: np.ndarray, frame: Frame, image_size: int, side: int) -> Tensor:
    """Index of the cell that holds each point (the middle of its pixel)."""
    at = frame.to_model(np.asarray(points, np.float32) + 0.5) * (side / image_size)
    x, y = np.clip(at.astype(np.int64), 0, side - 1).T
    return torch.from_numpy(y * side + x)


def _resize_weights(grid: int, valid: int, image_size: int, side: int) -> Tensor:
    """(grid, side) weights of a bilinear resize of the valid cells to `grid` cells."""
    covered = valid * side / image_size
    last = max(int(np.ceil(covered)) - 1, 0)
    at = (torch.arange(grid, dtype=torch.float64) + 0.5) * (covered / grid) - 0.5
    at = at.clamp(0, last)
    low = at.long()
    weights = torch.zeros(grid, side, dtype=torch.float64)
    every = torch.arange(grid)
    weights[every, low] = 1 - (at - low)
    weights[every, (low + 1).clamp(max=last)] += at - low
    return weights.float()


def _quantise(maps: Tensor) -> tuple[Tensor, Tensor]:
    """float32 (P, n) to uint8 (P, n), and their scales and offsets (2, P)."""
    offset = maps.amin(1)
    scale = (maps.amax(1) - offset) / LEVELS
    steps = (maps - offset[:, None]) / scale.clamp(min=1e-12)[:, None]
    return steps.round().clamp(0, LEVELS).to(torch.uint8), torch.stack([scale, offset])
