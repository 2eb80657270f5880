"""Mask2Former's pixel decoder with the maps' sizes known on the host.

MMDetection keeps the sizes in a tensor on the device and reads them from there: the host would wait
for a GPU 21 times a pass.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any, cast

import torch
import torch.nn.functional as F
from mmcv.ops import MultiScaleDeformableAttention, multi_scale_deform_attn
from mmdet.models.layers import MSDeformAttnPixelDecoder
from mmdet.registry import MODELS
from torch import Tensor

from s4m_pipeline.devices.transfers import to_device
from s4m_pipeline.models.mask2former.deformable import know_sizes


class SizedAttention(MultiScaleDeformableAttention):
    """mmcv's deformable attention without the check that reads the sizes from the device.

    Queries are the values, batch first, with one reference point a level, as the pixel decoder has
    them.
    """

    def forward(
        self,
        query: Tensor,
        query_pos: Tensor,
        reference_points: Tensor,
        spatial_shapes: Tensor,
        level_start_index: Tensor,
        **kwargs: Any,
    ) -> Tensor:
        """Attend to all levels.

        Args:
            query: float (B, N, C), of all levels one after another.
            query_pos: float (B, N, C), added to the queries but not to the values.
            reference_points: float (B, N, L, 2), x and y in 0 to 1.
            spatial_shapes: int64 (L, 2), height and width of each level.
            level_start_index: int64 (L,), place of each level's first value.
            **kwargs: What mmdet's layer gives besides.

        Returns:
            float (B, N, C), the queries added.
        """
        images, count, _ = query.shape
        shape = (images, count, self.num_heads, self.num_levels, self.num_points)
        value = self.value_proj(query).view(images, count, self.num_heads, -1)
        moved = query + query_pos
        offsets = self.sampling_offsets(moved).view(*shape, 2)
        weights = self.attention_weights(moved).view(*shape[:3], -1).softmax(-1).view(shape)
        sides = spatial_shapes.flip(1)[None, None, None, :, None]
        places = reference_points[:, :, None, :, None] + offsets / sides
        if multi_scale_deform_attn.IS_CUDA_AVAILABLE and value.is_cuda:
            sums = multi_scale_deform_attn.MultiScaleDeformableAttnFunction.apply(
                value, spatial_shapes, level_start_index, places, weights, self.im2col_step
            )
        else:
            sums = multi_scale_deform_attn.multi_scale_deformable_attn_pytorch(
                value, spatial_shapes, places, weights
            )
        return cast(Tensor, self.dropout(self.output_proj(sums)) + query)


@MODELS.register_module()
class SizedPixelDecoder(MSDeformAttnPixelDecoder):
    """``MSDeformAttnPixelDecoder``, whose arguments, weights and values it has.

    The host never waits for the device, whether mmcv's operators are compiled or not.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for layer in self.encoder.layers:
            attention = layer.self_attn
            if type(attention) is MultiScaleDeformableAttention and attention.batch_first:
                attention.__class__ = SizedAttention  # a new one would draw other random weights

    def forward(self, feats: Sequence[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """Decode a backbone's maps.

        Args:
            feats: Each level's map, float (B, C, h, w), the finest first.

        Returns:
            The mask features, float (B, C, h, w), and the maps for the transformer, the coarsest
            first.
        """
        levels = list(feats)[: self.num_input_levels][::-1][: self.num_encoder_levels]
        sizes = [(level.shape[2], level.shape[3]) for level in levels]
        shapes = know_sizes(to_device(torch.tensor(sizes), levels[0].device), sizes)
        maps = [conv(level) for conv, level in zip(self.input_convs, levels, strict=False)]
        references = torch.cat([self._middles(n, size, shapes) for n, size in enumerate(sizes)])
        memory = self.encoder(
            query=_rows(maps),
            query_pos=_rows([self._positions(n, level) for n, level in enumerate(levels)]),
            key_padding_mask=None,
            spatial_shapes=shapes,
            reference_points=references[None, :, None].repeat(len(maps[0]), 1, len(maps), 1),
            level_start_index=F.pad(shapes.prod(1).cumsum(0)[:-1], (1, 0)),
            valid_ratios=None,
        )
        parts = memory.transpose(1, 2).split([height * width for height, width in sizes], dim=2)
        outs = [part.unflatten(2, size) for part, size in zip(parts, sizes, strict=True)]
        for place in reversed(range(self.num_input_levels - self.num_encoder_levels)):
            finer = self.lateral_convs[place](feats[place])
            coarser = F.interpolate(outs[-1], finer.shape[2:], mode="bilinear", align_corners=False)
            outs.append(self.output_convs[place](finer + coarser))
        return self.mask_feature(outs[-1]), outs[: self.num_outs]

    def _positions(self, level: int, features: Tensor) -> Tensor:
        """Encoding of the level and of each place of its map, float (B, C, h, w)."""
        images, _, height, width = features.shape
        inside = features.new_zeros((images, height, width), dtype=torch.bool)
        encoded: Tensor = self.postional_encoding(inside)
        return self.level_encoding.weight[level].view(1, -1, 1, 1) + encoded

    def _middles(self, level: int, size: tuple[int, int], shapes: Tensor) -> Tensor:
        """Middles of a level's cells as x and y in 0 to 1, float32 (h * w, 2)."""
        place = self.num_input_levels - level - 1
        middles: Tensor = self.point_generator.single_level_grid_priors(
            size, place, device=shapes.device
        )
        return middles / (shapes[level].flip(0) * self.strides[place])


def sized(config: dict[str, Any]) -> dict[str, Any]:
    """A pixel decoder's config, with `SizedPixelDecoder` in place of MMDetection's own."""
    own = MSDeformAttnPixelDecoder
    if config["type"] not in (own, own.__name__, f"mmdet.{own.__name__}"):
        return config
    ours = copy.deepcopy(config)
    ours["type"] = SizedPixelDecoder
    return ours


def _rows(maps: Sequence[Tensor]) -> Tensor:
    """All levels' cells one after another, row by row: float (B, N, C) of (B, C, h, w)."""
    return torch.cat([level.flatten(2).transpose(1, 2) for level in maps], dim=1)
