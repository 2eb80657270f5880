"""Structural distillation: the network's features learn the segmenter's similarity maps.

For a query point the target is the cosine similarity of the segmenter's feature at the point's cell
with that of every cell. It is stored on a lattice over the whole original image and carried here
through the same crop, scale and flip as the image. The network's side is the same similarity in its
own mask features. The loss is smooth L1 (beta 1), the mean over all points and cells.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(slots=True)
class Geometry:
    """How an augmented image lies in the padded input of a batch.

    Attributes:
        matrix: (3, 3) float, original pixels to augmented pixels (continuous coordinates).
        original: Height and width of the original image.
        augmented: Height and width of the augmented image, without padding.
        padded: Height and width of the batch's input.
    """

    matrix: Tensor
    original: tuple[int, int]
    augmented: tuple[int, int]
    padded: tuple[int, int]


def cell_centres(grid: int, geometry: Geometry) -> Tensor:
    """Centres of the cells of a grid over the padded input, row by row.

    Returns:
        float (grid * grid, 2) x, y in pixels of the augmented image.
    """
    height, width = geometry.padded
    steps = (torch.arange(grid, device=geometry.matrix.device) + 0.5) / grid
    y, x = torch.meshgrid(steps * height, steps * width, indexing="ij")
    return torch.stack([x, y], dim=-1).reshape(-1, 2)


def warp_targets(maps: Tensor, geometry: Geometry, grid: int) -> tuple[Tensor, Tensor]:
    """Carry whole-image maps onto the grid over the padded input.

    Args:
        maps: float (P, g, g), on a lattice over the whole original image.
        geometry: How the image was augmented.
        grid: Cells of the wanted grid on a side.

    Returns:
        float (P, grid * grid) values, and bool (grid * grid,) cells that lie on the image.
    """
    centres = cell_centres(grid, geometry)
    ones = centres.new_ones(len(centres), 1)
    inverse = torch.linalg.inv(geometry.matrix.to(centres.dtype))
    source = torch.cat([centres, ones], dim=1) @ inverse.T
    source = source[:, :2] / source[:, 2:]
    place = 2 * source / source.new_tensor(geometry.original[::-1]) - 1
    limit = centres.new_tensor(geometry.augmented[::-1])
    valid = (centres < limit).all(1) & (place.abs() <= 1).all(1)
    sampled = F.grid_sample(
        maps[None], place[None, None], mode="bilinear", padding_mode="border", align_corners=False
    )
    return sampled[0, :, 0], valid


def cells_of(points: Tensor, geometry: Geometry, grid: int) -> Tensor:
    """The cell that each point lies in, of a grid over the padded input.

    Args:
        points: float (P, 2) x, y in pixels of the augmented image.
        geometry: How the image lies in the input.
        grid: Cells on a side.

    Returns:
        int64 (P,), counted row by row.
    """
    extent = points.new_tensor(geometry.padded[::-1])
    column, row = (points * grid / extent).floor().long().clamp(0, grid - 1).unbind(1)
    return row * grid + column


def feature_similarity(features: Tensor, points: Tensor, geometry: Geometry, grid: int) -> Tensor:
    """Cosine similarity of the cells at ``points`` with every cell.

    Args:
        features: float (C, h, w), covering the padded input.
        points: float (P, 2) x, y in pixels of the augmented image.
        geometry: How the image lies in the input.
        grid: The features are brought to grid x grid cells.

    Returns:
        float (P, grid * grid).
    """
    cells = F.interpolate(features[None], (grid, grid), mode="bilinear", align_corners=False)[0]
    cells = F.normalize(cells.flatten(1).float(), dim=0)
    return cells[:, cells_of(points, geometry, grid)].T @ cells


def structure_loss(
    features: Tensor, data_samples: list[Any], grid: int = 64, max_points: int = 128
) -> Tensor:
    """Structural distillation loss of a batch; arguments as of :func:`structure_sum`.

    Returns:
        A scalar; 0 with a gradient of 0 where no image has a point inside.
    """
    total, count = structure_sum(features, data_samples, grid, max_points)
    return total / max(count, 1)


def structure_sum(
    features: Tensor, data_samples: list[Any], grid: int = 64, max_points: int = 128
) -> tuple[Tensor, int]:
    """Sum of a batch's structural errors, and how many they are.

    Args:
        features: float (B, C, h, w), covering the padded input.
        data_samples: One an image. Those with ``structure`` count: its ``points`` float (P, 2) x, y
            in augmented pixels, ``similarity`` uint8 (P, g, g), ``scale`` and ``offset`` float (P,)
            (value = offset + scale * uint8), ``matrix`` (3, 3) and ``size`` (height, width) of the
            original image; where instances were pasted in, ``hidden`` bool (H, W), augmented
            pixels that the targets do not tell of.
        grid: Cells on a side of the grid on which both sides are compared.
        max_points: Points drawn an image, from torch's generator.

    Returns:
        A scalar, with a gradient of 0 where nothing is compared, and the number of (point, cell)
        pairs in it.
    """
    total = features.sum() * 0
    count = 0
    for feature, sample in zip(features, data_samples, strict=True):
        structure = sample.get("structure")
        if structure is None:
            continue
        geometry = _geometry(structure, sample)
        seen = _seen_cells(structure, geometry, grid)
        chosen = draw_points(structure.points, geometry, max_points, seen)
        if not len(chosen):
            continue
        with torch.no_grad():
            warped, valid = warp_targets(structure.similarity[chosen].float(), geometry, grid)
            target = structure.offset[chosen, None] + structure.scale[chosen, None] * warped
            if seen is not None:
                valid = valid & seen
        similarity = feature_similarity(feature, structure.points[chosen], geometry, grid)
        total = total + F.smooth_l1_loss(
            similarity[:, valid], target[:, valid], beta=1.0, reduction="sum"
        )
        count += len(chosen) * int(valid.sum())
    return total, count


def _geometry(structure: Any, sample: Any) -> Geometry:
    """Collect an image's geometry from its data sample."""
    height, width = (int(value) for value in structure.size)
    return Geometry(
        matrix=structure.matrix,
        original=(height, width),
        augmented=tuple(sample.metainfo["img_shape"][:2]),
        padded=tuple(sample.metainfo["batch_input_shape"]),
    )


def _seen_cells(structure: Any, geometry: Geometry, grid: int) -> Tensor | None:
    """Cells without any hidden pixel: bool (grid * grid,); None where no pixel is hidden."""
    hidden = structure.get("hidden")
    if hidden is None or not bool(hidden.any()):
        return None
    bottom, right = (b - a for a, b in zip(hidden.shape, geometry.padded, strict=True))
    padded = F.pad(hidden.float(), (0, right, 0, bottom))
    return F.adaptive_max_pool2d(padded[None], grid)[0].flatten() == 0


def draw_points(
    points: Tensor, geometry: Geometry, count: int, seen: Tensor | None = None
) -> Tensor:
    """Draw a step's points: half from the union of the masks, half from the whole image.

    The stored points' first half is the union's, as the segmenter's room writes them. Points
    outside the augmented image drop out; where too few of one half are left, the other makes up
    for them.

    Args:
        points: float (P, 2) x, y in pixels of the augmented image.
        geometry: How the image lies in the input.
        count: The most points that are drawn.
        seen: bool (grid * grid,) cells over the padded input that points may lie in; None for all.

    Returns:
        int64 (at most ``count``,), places among the points.
    """
    limit = points.new_tensor(geometry.augmented[::-1])
    inside = ((points >= 0) & (points < limit)).all(1)
    if seen is not None:
        inside = inside & seen[cells_of(points, geometry, int(len(seen) ** 0.5))]
    places = inside.nonzero().squeeze(1)
    union = places[places < len(points) // 2]
    anywhere = places[places >= len(points) // 2]
    first = min(len(union), max(count // 2, count - len(anywhere)))
    parts = ((union, first), (anywhere, min(len(anywhere), count - first)))
    drawn = [part[torch.randperm(len(part))[:taken].to(part.device)] for part, taken in parts]
    return torch.cat(drawn)
