"""Deformable attention over several levels without compiled operators, always in float32.

Sampling places are shares of a map's side: bfloat16 would round them to whole cells of a large map.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from s4m_pipeline.models.mask2former.triton_attention import triton_attention

CACHED_BYTES = 2 * 2**20
"""Bytes of samples that a CPU makes at a time, so that they are in its cache when it sums them."""


def deformable_attention(
    value: Tensor,
    value_spatial_shapes: Tensor,
    sampling_locations: Tensor,
    attention_weights: Tensor,
) -> Tensor:
    """Weighted sums of values at points, as mmcv's function of the same arguments.

    A GPU takes Triton's kernels where `deformops` is installed; else it is `in_pytorch`.

    Args:
        value: float (B, N, heads, D), the levels one after another, row by row.
        value_spatial_shapes: int64 (L, 2), height and width of each level.
        sampling_locations: float (B, Q, heads, L, P, 2), x and y in 0 to 1 of the level's sides.
        attention_weights: float (B, Q, heads, L, P).

    Returns:
        float32 (B, Q, heads * D).
    """
    attention = triton_attention(value.device) or in_pytorch
    return attention(value, value_spatial_shapes, sampling_locations, attention_weights)


def in_pytorch(
    value: Tensor,
    value_spatial_shapes: Tensor,
    sampling_locations: Tensor,
    attention_weights: Tensor,
) -> Tensor:
    """`deformable_attention` without kernels of its own.

    Each level's samples are weighted and added up at once, with points before queries, so that the
    sum runs over whole rows. A CPU takes as many heads together as have samples for its cache.
    """
    images, _, heads, width = value.shape
    queries, levels, points = (sampling_locations.shape[i] for i in (1, 3, 4))
    maps = images * heads
    with torch.autocast(value.device.type, enabled=False):
        grids = (2 * sampling_locations.float() - 1).permute(0, 2, 3, 4, 1, 5)
        weights = attention_weights.float().permute(0, 2, 3, 4, 1)
        # contiguous: with one image both would be views, and all that follows would run on strides
        grids = grids.reshape(maps, levels, points, queries, 2).contiguous()
        weights = weights.reshape(maps, levels, 1, points, queries).contiguous()
        sizes = sizes_on_host(value_spatial_shapes)
        parts = value.float().split([height * across for height, across in sizes], dim=1)
        values = [
            part.permute(0, 2, 3, 1).reshape(maps, width, *size)
            for part, size in zip(parts, sizes, strict=True)
        ]
        together = maps
        if value.device.type == "cpu":
            fitting = CACHED_BYTES // (4 * width * points * queries)
            together = max(torch.get_num_threads(), fitting)
        runs = zip(*(part.split(together) for part in (grids, weights, *values)), strict=True)
        total = torch.cat([_sampled_sum(*run) for run in runs])
    return total.view(images, heads * width, queries).transpose(1, 2).contiguous()


def know_sizes(shapes: Tensor, sizes: Sequence[tuple[int, int]]) -> Tensor:
    """Attach the levels' sizes to their tensor, so that no one has to read them from the device.

    Args:
        shapes: int64 (L, 2), height and width of each level; not to be changed.
        sizes: The same on the host.

    Returns:
        ``shapes``.
    """
    shapes.sizes_on_host = list(sizes)  # type: ignore[attr-defined]
    return shapes


def sizes_on_host(shapes: Tensor) -> list[tuple[int, int]]:
    """Height and width of each level; waits for the device where they are not known."""
    known: list[tuple[int, int]] | None = getattr(shapes, "sizes_on_host", None)
    return shapes.tolist() if known is None else known


def _sampled_sum(grids: Tensor, weights: Tensor, *maps: Tensor) -> Tensor:
    """Weighted sums of all levels, float32 (M, D, Q).

    Args:
        grids: float32 (M, L, P, Q, 2), x and y in -1 to 1.
        weights: float32 (M, L, 1, P, Q).
        maps: One entry a level, float32 (M, D, height, width).
    """
    sums = [
        (F.grid_sample(part, grids[:, level], align_corners=False) * weights[:, level]).sum(2)
        for level, part in enumerate(maps)
    ]
    return sum(sums[1:], sums[0])


class Float32Function:
    """mmcv's compiled function, called in float32 whatever autocast chose.

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
            sums: Tensor = self.function.apply(
                value.float(), shapes, starts, locations.float(), weights.float(), step
            )
        return sums
