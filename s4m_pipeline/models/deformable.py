"""Deformable attention over several levels, in PyTorch and always in float32.

Sampling places are shares of a map's side: bfloat16 would round them to whole cells of a large map.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


def deformable_attention(
    value: Tensor,
    value_spatial_shapes: Tensor,
    sampling_locations: Tensor,
    attention_weights: Tensor,
) -> Tensor:
    """Weighted sums of values at points, as mmcv's function of the same arguments.

    Each level's samples are weighted and added up at once, so that one level's are held at a time,
    and points lie before queries, so that the sum runs over whole rows.

    Args:
        value: float (B, N, heads, D), the levels one after another, row by row.
        value_spatial_shapes: int64 (L, 2), height and width of each level.
        sampling_locations: float (B, Q, heads, L, P, 2), x and y in 0 to 1 of the level's sides.
        attention_weights: float (B, Q, heads, L, P).

    Returns:
        float32 (B, Q, heads * D).
    """
    images, _, heads, width = value.shape
    queries, levels, points = (sampling_locations.shape[i] for i in (1, 3, 4))
    sizes = value_spatial_shapes.tolist()
    with torch.autocast(value.device.type, enabled=False):
        grids = (2 * sampling_locations.float() - 1).permute(3, 0, 2, 4, 1, 5)
        grids = grids.reshape(levels, images * heads, points, queries, 2)
        weights = attention_weights.float().permute(3, 0, 2, 4, 1)
        weights = weights.reshape(levels, images * heads, 1, points, queries)
        parts = value.float().split([height * width for height, width in sizes], dim=1)
        total = value.new_zeros((images * heads, width, queries), dtype=torch.float32)
        for part, (height, across), grid, weight in zip(parts, sizes, grids, weights, strict=True):
            maps = part.permute(0, 2, 3, 1).reshape(images * heads, width, height, across)
            sampled = F.grid_sample(maps, grid, padding_mode="zeros", align_corners=False)
            total = total + (sampled * weight).sum(2)
    return total.view(images, heads * width, queries).transpose(1, 2).contiguous()


class Float32Function:
    """Stands for mmcv's compiled function and gives it float32, whatever autocast made.

    Args:
        function: ``MultiScaleDeformableAttnFunction``, which rounds places to the values' type.
    """

    def __init__(self, function: Any) -> None:
        self.function = function

    def apply(
        self,
        value: Tensor,
        shapes: Tensor,
        starts: Tensor,
        locations: Tensor,
        weights: Tensor,
        step: int,
    ) -> Tensor:
        """Apply it; arguments as mmcv's module gives them."""
        with torch.autocast(value.device.type, enabled=False):
            found: Tensor = self.function.apply(
                value.float(), shapes, starts, locations.float(), weights.float(), step
            )
        return found
