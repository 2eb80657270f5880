"""Weights to start a training from: a checkpoint of ours, of MMDetection, or a bare backbone's."""

from __future__ import annotations

import logging
from pathlib import Path

from mmengine.logging import print_log
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from s4m_pipeline.errors import UsageError
from s4m_pipeline.models.safe_load import load_checkpoint_file

PREFIXES = ("", "segmentor.", "module.")


def load_start_weights(segmentor: nn.Module, path: Path) -> int:
    """Load all tensors whose name and shape fit; a class layer of other size stays as it is.

    Args:
        segmentor: The model. Names in the file may be those of the model or of its backbone.
        path: The file.

    Returns:
        How many tensors were loaded.

    Raises:
        UsageError: The file is not a checkpoint, or less than half of the backbone's tensors fit.
    """
    tensors = _tensors(path)
    own = segmentor.state_dict()
    options = [
        _fitting(own, tensors, prefix, inner) for prefix in PREFIXES for inner in ("", "backbone.")
    ]
    best = max(options, key=len)
    backbone = [name for name in own if name.startswith("backbone.")]
    if len([name for name in best if name in backbone]) * 2 < max(len(backbone), 1):
        raise UsageError(f"these weights do not fit the model: {path}")
    segmentor.load_state_dict(best, strict=False)
    print_log(f"{len(best)} of {len(own)} tensors start from {path}", "current", logging.INFO)
    return len(best)


def _tensors(path: Path) -> dict[str, Tensor]:
    """The tensors by name, of a checkpoint or a safetensors file."""
    if path.suffix == ".safetensors":
        try:
            return load_file(path)
        except (OSError, SafetensorError) as error:
            raise UsageError(f"not a safetensors file: {path} ({error})") from error
    content = load_checkpoint_file(path)
    for key in ("state_dict", "model"):
        if isinstance(content.get(key), dict):
            content = content[key]
            break
    tensors = {name: value for name, value in content.items() if isinstance(value, Tensor)}
    if not tensors:
        raise UsageError(f"not a checkpoint: {path} holds no tensors")
    return tensors


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
