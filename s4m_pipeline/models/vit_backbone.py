"""A plain vision transformer from ``timm`` as a backbone, and the feature pyramid it needs.

A plain transformer puts out one map. Mask2Former wants four, at strides 4, 8, 16 and 32: the
pyramid makes them from that one map, up by transposed convolutions and down by pooling.

DINOv2 was trained with patches of 14 px, which no input padded to a multiple of 32 fits. Its patch
embedding is therefore resampled to 16 px when its weights are loaded: an image enlarged by 16/14
gives the same tokens as the old patches gave before it was enlarged, and the map's stride is 16.
The position embedding is interpolated from its own grid to that of the input, so any input whose
sides are multiples of 16 will do.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mmdet.registry import MODELS
from mmengine.model import BaseModule
from torch import Tensor, nn

from s4m_pipeline.models.timm_backbone import create_timm_model

PATCH = 16
GROUPS = 32


@MODELS.register_module()
class TimmViT(BaseModule):
    """The last map of a vision transformer of timm, at stride 16 and after its final norm.

    Args:
        model_name: Name of the model in timm, such as ``vit_small_patch14_dinov2``.
        position_grid: Cells on a side of the position embedding; 37 is DINOv2's (518 px of 14).
        options: Further arguments of ``timm.create_model``.

    Raises:
        UsageError: timm is not installed, or has no such model.
    """

    def __init__(
        self, model_name: str, position_grid: int = 37, options: dict[str, Any] | None = None
    ) -> None:
        super().__init__()
        self.model_name = model_name
        self.network: Any = create_timm_model(
            model_name,
            patch_size=PATCH,
            img_size=position_grid * PATCH,
            dynamic_img_size=True,
            num_classes=0,
            global_pool="",
            **(options or {}),
        )

    def init_weights(self) -> None:
        """Keep timm's initialisation; trained weights come with the training's ``weights``."""

    def forward(self, images: Tensor) -> tuple[Tensor]:
        """The map of (B, 3, H, W) images: one of (B, C, H / 16, W / 16).

        Args:
            images: float; H and W are multiples of 16.
        """
        (last,) = self.network.forward_intermediates(
            images, indices=1, norm=True, output_fmt="NCHW", intermediates_only=True
        )
        return (last,)

    def own_tensors(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Bring a file of weights to this network's names, patches and positions.

        Args:
            tensors: Of DINOv2's authors or of timm.

        Returns:
            Tensors under this module's names; none where the file is of another kind.
        """
        if "patch_embed.proj.weight" not in tensors or "pos_embed" not in tensors:
            return {}
        from timm.models.vision_transformer import checkpoint_filter_fn

        translated = checkpoint_filter_fn(dict(tensors), self.network)
        return {f"network.{name}": value for name, value in translated.items()}


@MODELS.register_module()
class SimpleFeaturePyramid(BaseModule):
    """Maps of strides 4, 8, 16 and 32 from one of stride 16.

    Args:
        in_channels: Channels of the one map.
        out_channels: Channels of each of the four; a multiple of 32.
    """

    def __init__(self, in_channels: int, out_channels: int = 256) -> None:
        super().__init__()
        half, quarter = in_channels // 2, in_channels // 4
        scalings: list[nn.Module] = [
            nn.Sequential(
                _doubled(in_channels, half),
                nn.GroupNorm(GROUPS, half),
                nn.GELU(),
                _doubled(half, quarter),
            ),
            _doubled(in_channels, half),
            nn.Identity(),
            nn.MaxPool2d(kernel_size=2, stride=2),
        ]
        widths = [quarter, half, in_channels, in_channels]
        self.levels = nn.ModuleList(
            nn.Sequential(scaling, *_mixing(width, out_channels))
            for scaling, width in zip(scalings, widths, strict=True)
        )

    def forward(self, maps: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Four maps, fine to coarse, from the last of ``maps``, (B, C, h, w) with even h and w."""
        return tuple(level(maps[-1]) for level in self.levels)


def _doubled(channels: int, out: int) -> nn.Module:
    """A layer that doubles height and width."""
    return nn.ConvTranspose2d(channels, out, kernel_size=2, stride=2)


def _mixing(channels: int, out: int) -> list[nn.Module]:
    """Layers that bring a map to its width and smooth it."""
    return [
        nn.Conv2d(channels, out, kernel_size=1, bias=False),
        nn.GroupNorm(GROUPS, out),
        nn.Conv2d(out, out, kernel_size=3, padding=1, bias=False),
        nn.GroupNorm(GROUPS, out),
    ]
