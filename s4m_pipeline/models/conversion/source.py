"""Reading files of weights in any layout, and telling which layout it is."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from s4m_pipeline.artifacts.torch_files import is_whole_zip
from s4m_pipeline.errors import UsageError
from s4m_pipeline.models.checkpoints import FORMAT
from s4m_pipeline.models.conversion.detectron2 import HEAD, from_detectron2
from s4m_pipeline.models.conversion.pickled_arrays import read_pickled_arrays
from s4m_pipeline.models.safe_load import load_checkpoint_file, reason_of

ONLY = ""
PREFIXES = {ONLY: "", "teacher": "modelTeacher.", "student": "modelStudent."}
"""What stands before the names of a file's only model, or of a mean teacher's two models."""
WRAPPER = "module."
"""Prefix that data-parallel training puts before every name."""

Layout = Literal["s4m", "detectron2", "mmdet"]
BACKBONES = {
    "layers.0.blocks.0.attn.qkv.weight": "Swin",
    "stem.conv1.weight": "ResNet (detectron2's names)",
    "layer1.0.conv1.weight": "ResNet (torchvision's names)",
}
"""A name that only a bare backbone's file has without a prefix, and what it is."""


def read_content(path: Path) -> dict[str, Any]:
    """Read a file of weights without running code from it.

    Args:
        path: ``.pth`` and the like of torch, ``.safetensors``, or detectron2's ``.pkl`` of arrays.

    Raises:
        UsageError: There is no such file, or it cannot be read safely.
    """
    if path.suffix == ".safetensors":
        try:
            return dict(load_file(path))
        except (OSError, SafetensorError) as error:
            reason = f"({error})" if isinstance(error, OSError) else reason_of(error, path)
            raise UsageError(f"not a safetensors file: {path}\n{reason}") from error
    if path.suffix == ".pkl" and path.is_file() and not is_whole_zip(path):
        return read_pickled_arrays(path)
    return load_checkpoint_file(path)


def tensors_of(content: Mapping[str, Any], path: Path) -> dict[str, Tensor]:
    """The tensors of a file's content, by name.

    Args:
        content: As read; the tensors may stand under ``state_dict`` or ``model``.
        path: The file, for messages.

    Raises:
        UsageError: There are no tensors.
    """
    for key in ("state_dict", "model"):
        if isinstance(content.get(key), dict):
            content = content[key]
            break
    tensors = {str(k): value for k, value in content.items() if isinstance(value, Tensor)}
    if not tensors:
        raise UsageError(f"not a checkpoint: {path} holds no tensors")
    return tensors


def split_models(tensors: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """Part a mean teacher's models, and cut wrappers' prefixes off.

    Returns:
        Tensors by model: ``teacher`` and ``student``, or :data:`ONLY`.
    """
    plain = _without_wrapper(tensors)
    models = {}
    for model, prefix in PREFIXES.items():
        own = {name[len(prefix) :]: v for name, v in plain.items() if name.startswith(prefix)}
        if own and prefix:
            models[model] = _without_wrapper(own)
    return models or {ONLY: plain}


def in_our_names(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Those tensors of a file that have a name in MMDetection, under that name.

    Args:
        tensors: Of detectron2's Mask2Former (of a mean teacher, the teacher's), of detectron2's
            ResNet, or of a Swin in its authors' names.
    """
    first = next(iter(split_models(tensors).values()))
    if any(name in first for name in BACKBONES):
        first = {f"backbone.{name}": value for name, value in first.items()}
    return from_detectron2(first).tensors


def layout_of(content: Mapping[str, Any], tensors: Mapping[str, Tensor], path: Path) -> Layout:
    """Tell the layout of a whole Mask2Former by its names.

    Raises:
        UsageError: It is a bare backbone, or nothing that is known.
    """
    meta = content.get("meta")
    if isinstance(meta, dict) and meta.get("format") == FORMAT:
        return "s4m"
    if any(HEAD in name for name in tensors):
        return "detectron2"
    if any("panoptic_head." in name for name in tensors):
        return "mmdet"
    for name, kind in BACKBONES.items():
        if name in tensors or f"backbone.{name}" in tensors:
            raise UsageError(
                f"{path} holds only a backbone: {kind}. There is nothing to convert:\n"
                "give it as teacher.weights, or as student.weights of a student of another model."
            )
    first = ", ".join(list(tensors)[:3])
    raise UsageError(
        f"{path} holds no Mask2Former of detectron2, MMDetection or s4m (its names: {first}, ...)"
    )


def _without_wrapper(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(WRAPPER): value for name, value in tensors.items()}
