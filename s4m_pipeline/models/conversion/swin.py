"""Swin Transformer: the names of the authors' code, which detectron2's Mask2Former shares.

Patch merging puts the four pixels of a 2 x 2 block, C channels each, into 4C channels. The authors
stack pixel by pixel, top left, bottom left, top right, bottom right; MMDetection's ``nn.Unfold``
stacks channel by channel and takes the pixels row by row. So the columns of the reduction and the
entries of the normalisation before it change places.
"""

from __future__ import annotations

from torch import Tensor

from s4m_pipeline.models.conversion.keys import Rule

PIXELS = (0, 2, 1, 3)
"""Place in the authors' order of each pixel of MMDetection's order; it is its own inverse."""


def _merge_to_ours(values: Tensor) -> Tensor:
    """Reorder the last axis, 4C, from (pixel, channel) to (channel, pixel)."""
    if not _holds_pixels(values):
        return values
    split = values.reshape(*values.shape[:-1], 4, -1)[..., PIXELS, :]
    return split.transpose(-1, -2).reshape(values.shape).contiguous()


def _merge_to_theirs(values: Tensor) -> Tensor:
    """Reorder the last axis, 4C, from (channel, pixel) to (pixel, channel)."""
    if not _holds_pixels(values):
        return values
    split = values.reshape(*values.shape[:-1], -1, 4).transpose(-1, -2)
    return split[..., PIXELS, :].reshape(values.shape).contiguous()


def _holds_pixels(values: Tensor) -> bool:
    """Whether the last axis is 4C long. Other tensors fit no model; the check of shapes says so."""
    return values.ndim > 0 and values.numel() > 0 and values.shape[-1] % len(PIXELS) == 0


_THEIRS, _OURS = "layers.{}.blocks.{}.", "stages.{}.blocks.{}."

RULES = [
    Rule("patch_embed.proj.*", "patch_embed.projection.*"),
    Rule("patch_embed.norm.*", "patch_embed.norm.*"),
    Rule(_THEIRS + "norm1.*", _OURS + "norm1.*"),
    Rule(_THEIRS + "norm2.*", _OURS + "norm2.*"),
    Rule(_THEIRS + "attn.*", _OURS + "attn.w_msa.*"),
    Rule(_THEIRS + "mlp.fc1.*", _OURS + "ffn.layers.0.0.*"),
    Rule(_THEIRS + "mlp.fc2.*", _OURS + "ffn.layers.1.*"),
    Rule(
        "layers.{}.downsample.reduction.weight",
        "stages.{}.downsample.reduction.weight",
        _merge_to_ours,
        _merge_to_theirs,
    ),
    Rule(
        "layers.{}.downsample.norm.*",
        "stages.{}.downsample.norm.*",
        _merge_to_ours,
        _merge_to_theirs,
    ),
    Rule("norm{}.*", "norm{}.*"),
]
