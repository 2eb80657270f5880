"""Structural distillation: the network's features learn the segmenter's similarity maps.

For a query point the target is the cosine similarity of the segmenter's feature at the point's cell
with that of every cell. It is stored on a lattice over the whole original image and carried here
through the same crop, scale and flip as the image. The network's side is the same similarity in its
own mask features. The loss is smooth L1 (beta 1), the mean over all points and cells.

The host waits for the device once a batch, to learn which points lie inside the images.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from s4m_pipeline.devices.transfers import to_device


@dataclass(slots=True)
class Geometry:
    """How an augmented image lies in the padded input of a batch.

    Attributes:
        matrix: (3, 3) float, original pixels to augmented pixels (continuous coordinates).
        original: Height and width of the original image: two numbers, or an int64 tensor (2,).
        augmented: Height and width of the augmented image, without padding.
        padded: Height and width of the batch's input.
    """

    matrix: Tensor
    original: tuple[int, int] | Tensor
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
    inverse, _ = torch.linalg.inv_ex(geometry.matrix.to(centres.dtype))  # inv waits for a check
    source = torch.cat([centres, ones], dim=1) @ inverse.T
    height, width = geometry.original
    x, y = source[:, 0] / source[:, 2], source[:, 1] / source[:, 2]
    place = torch.stack([2 * x / width - 1, 2 * y / height - 1], dim=1)
    valid = _inside(centres, geometry) & (place.abs() <= 1).all(1)
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
    height, width = geometry.padded
    cells = torch.stack([points[:, 0] * grid / width, points[:, 1] * grid / height])
    column, row = cells.floor().long().clamp(0, grid - 1)
    return row * grid + column


def _inside(points: Tensor, geometry: Geometry) -> Tensor:
    """Whether points (P, 2) x, y lie left of and above the augmented image's ends: bool (P,)."""
    height, width = geometry.augmented
    return (points[:, 0] < width) & (points[:, 1] < height)


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
    return total / count.clamp(min=1)


def structure_sum(
    features: Tensor, data_samples: list[Any], grid: int = 64, max_points: int = 128
) -> tuple[Tensor, Tensor]:
    """Sum of a batch's structural errors, and how many they are. Computed in float32.

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
        pairs in it, an int64 scalar.
    """
    with torch.autocast(features.device.type, enabled=False):
        total = features.sum(dtype=torch.float32) * 0
        count = torch.zeros((), dtype=torch.long, device=features.device)
        images = [
            _Image(feature, sample.structure, _geometry(sample), grid)
            for feature, sample in zip(features, data_samples, strict=True)
            if "structure" in sample
        ]
        for image, chosen in zip(images, _drawn(images, max_points), strict=True):
            if len(chosen):
                error, pairs = image.error(chosen)
                total, count = total + error, count + pairs
    return total, count


class _Image:
    """An image's features and targets.

    Args:
        feature: float (C, h, w).
        structure: Its targets.
        geometry: How the image lies in the input.
        grid: Cells on a side.

    Attributes:
        inside: bool (P,), the points that can be drawn.
    """

    def __init__(self, feature: Tensor, structure: Any, geometry: Geometry, grid: int) -> None:
        self._feature, self._structure = feature, structure
        self._geometry, self._grid = geometry, grid
        self._seen = _seen_cells(structure, geometry, grid)
        self.inside = points_inside(structure.points, geometry, self._seen)

    def error(self, chosen: Tensor) -> tuple[Tensor, Tensor]:
        """Sum of the errors at some points, int64 (N,), and the number of pairs in it."""
        structure, geometry, grid = self._structure, self._geometry, self._grid
        with torch.no_grad():
            warped, valid = warp_targets(structure.similarity[chosen].float(), geometry, grid)
            target = structure.offset[chosen, None] + structure.scale[chosen, None] * warped
            if self._seen is not None:
                valid = valid & self._seen
        points = structure.points[chosen]
        similarity = feature_similarity(self._feature.float(), points, geometry, grid)
        error = F.smooth_l1_loss(similarity, target, beta=1.0, reduction="none")
        return error.masked_fill(~valid, 0).sum(), len(chosen) * valid.sum()


def _geometry(sample: Any) -> Geometry:
    """Collect an image's geometry from its data sample."""
    return Geometry(
        matrix=sample.structure.matrix,
        original=sample.structure.size,
        augmented=tuple(sample.metainfo["img_shape"][:2]),
        padded=tuple(sample.metainfo["batch_input_shape"]),
    )


def _seen_cells(structure: Any, geometry: Geometry, grid: int) -> Tensor | None:
    """Cells without any hidden pixel: bool (grid * grid,); None where nothing was pasted."""
    hidden = structure.get("hidden")
    if hidden is None:
        return None
    bottom, right = (b - a for a, b in zip(hidden.shape, geometry.padded, strict=True))
    padded = F.pad(hidden.float(), (0, right, 0, bottom))
    return F.adaptive_max_pool2d(padded[None], grid)[0].flatten() == 0


def points_inside(points: Tensor, geometry: Geometry, seen: Tensor | None = None) -> Tensor:
    """Which points lie on the augmented image, and in a cell that can be seen.

    Args:
        points: float (P, 2) x, y in pixels of the augmented image.
        geometry: How the image lies in the input.
        seen: bool (grid * grid,) cells over the padded input; None for all.

    Returns:
        bool (P,).
    """
    inside = (points >= 0).all(1) & _inside(points, geometry)
    if seen is not None:
        inside = inside & seen[cells_of(points, geometry, int(len(seen) ** 0.5))]
    return inside


def _drawn(images: list[_Image], count: int) -> list[Tensor]:
    """Each image's points of this step, int64 on the device, by one trip to the host."""
    if not images:
        return []
    flags = torch.cat([image.inside for image in images])
    parts = flags.cpu().split([len(image.inside) for image in images])
    chosen = [draw_points(part, count) for part in parts]
    places = to_device(torch.cat(chosen), flags.device)
    return list(places.split([len(part) for part in chosen]))


def draw_points(inside: Tensor, count: int) -> Tensor:
    """Draw a step's points: half from the union of the masks, half from the whole image.

    The first half of the stored points lies in the union of the masks. Points outside the image
    drop out; where too few of one half are left, the other half makes up for them.

    Args:
        inside: bool (P,) on the host, the points that can be drawn.
        count: The most points that are drawn.

    Returns:
        int64 (at most ``count``,), places among the points.
    """
    places = inside.nonzero().squeeze(1)
    union = places[places < len(inside) // 2]
    anywhere = places[places >= len(inside) // 2]
    first = min(len(union), max(count // 2, count - len(anywhere)))
    parts = ((union, first), (anywhere, min(len(anywhere), count - first)))
    return torch.cat([part[torch.randperm(len(part))[:size]] for part, size in parts])
