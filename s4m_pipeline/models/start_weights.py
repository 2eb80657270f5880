"""Weights to start a training from: a whole checkpoint, or a bare backbone's.

Names may be MMDetection's (a checkpoint of ours or of MMDetection, torchvision's ResNet),
detectron2's, or those of Swin's authors.
"""

from __future__ import annotations

import logging
from pathlib import Path

from mmengine.logging import print_log
from torch import Tensor, nn

from s4m_pipeline.errors import UsageError
from s4m_pipeline.models.conversion.source import in_our_names, read_content, tensors_of
from s4m_pipeline.models.vit_backbone import TimmViT

PREFIXES = ("", "segmentor.", "module.")


def load_start_weights(segmentor: nn.Module, path: Path) -> int:
    """Load all tensors whose name and shape fit; a class layer of other size stays as it is.

    Args:
        segmentor: The model. The file may be of a whole model or of its backbone.
        path: The file.

    Returns:
        How many tensors were loaded.

    Raises:
        UsageError: The file is not a checkpoint, or less than half of the backbone's tensors fit.
    """
    tensors = tensors_of(read_content(path), path)
    own = segmentor.state_dict()
    options = [
        _fitting(own, tensors, prefix, inner) for prefix in PREFIXES for inner in ("", "backbone.")
    ]
    options.append(_fitting(own, in_our_names(tensors), "", ""))
    vit = getattr(segmentor, "backbone", None)
    if isinstance(vit, TimmViT):
        options.append(_fitting(own, vit.own_tensors(tensors), "", "backbone."))
    best = max(options, key=len)
    backbone = [name for name in own if name.startswith("backbone.")]
    if len([name for name in best if name in backbone]) * 2 < max(len(backbone), 1):
        raise UsageError(f"these weights do not fit the model: {path}")
    segmentor.load_state_dict(best, strict=False)
    print_log(f"{len(best)} of {len(own)} tensors start from {path}", "current", logging.INFO)
    return len(best)


def _fitting(
    own: dict[str, Tensor], tensors: dict[str, Tensor], outer: str, inner: str
) -> dict[str, Tensor]:
    """The tensors that fit once ``outer`` is cut off their names and ``inner`` is put before."""
    fitting = {}
    for name, value in tensors.items():
        if name.startswith(outer):
            target = inner + name[len(outer) :]
            if target in own and own[target].shape == value.shape:
                fitting[target] = value
    return fitting
