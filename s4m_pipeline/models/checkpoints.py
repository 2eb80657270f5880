"""The checkpoint that a training leaves: weights and all that is needed to run them.

A file written by ``torch.save``, with tensors and plain values only: ``state_dict`` (the averaged
weights if there are any, under MMDetection's names), ``source_state_dict`` (the last weights, where
they differ), and ``meta`` (format, model config, categories, test scale, iterations).
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import mmcv.ops
import torch
from mmdet import registry as mmdet_registry
from mmengine.config import ConfigDict
from mmengine.registry import Registry, init_default_scope
from mmengine.registry import root as mmengine_registry
from torch import Tensor, nn

from s4m_pipeline.errors import ArtifactError, UsageError
from s4m_pipeline.models.safe_load import load_checkpoint_file

FORMAT = "s4m-checkpoint"
VERSION = 1


@dataclass(slots=True)
class Checkpoint:
    """A trained network.

    Attributes:
        weights: The model's tensors; the averaged ones, if the training averaged.
        source_weights: The last weights, where they differ, else None.
        model: MMDetection's config of the model, as plain values.
        categories: ``{"id", "name"}`` of each class, in the order of labels.
        test_scale: Width and height within which an image is scaled.
        iterations: Length of the training.
        info: Anything else worth keeping, as plain values.
    """

    weights: dict[str, Tensor]
    source_weights: dict[str, Tensor] | None
    model: dict[str, Any]
    categories: list[dict[str, Any]]
    test_scale: tuple[int, int]
    iterations: int
    info: dict[str, Any] = field(default_factory=dict)


def write_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint; it appears whole or not at all."""
    content: dict[str, Any] = {
        "state_dict": _on_cpu(checkpoint.weights),
        "meta": {
            "format": FORMAT,
            "format_version": VERSION,
            "model": plain(checkpoint.model),
            "categories": [dict(category) for category in checkpoint.categories],
            "test_scale": tuple(checkpoint.test_scale),
            "iterations": checkpoint.iterations,
            "info": plain(checkpoint.info),
        },
    }
    if checkpoint.source_weights is not None:
        content["source_state_dict"] = _on_cpu(checkpoint.source_weights)
    unfinished = path.with_name(path.name + ".part")
    torch.save(content, unfinished)
    os.replace(unfinished, path)


def read_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint, safely.

    Raises:
        UsageError: There is no such file, or it is not a checkpoint of this program.
        ArtifactError: It has another format version, or parts are missing.
    """
    content = load_checkpoint_file(path)
    meta = content.get("meta")
    if not isinstance(meta, dict) or meta.get("format") != FORMAT:
        raise UsageError(f"not a checkpoint written by s4m: {path}")
    if meta.get("format_version") != VERSION:
        raise ArtifactError(
            f"{path}: checkpoint format {meta.get('format_version')}, this version reads {VERSION}"
        )
    try:
        return Checkpoint(
            weights=content["state_dict"],
            source_weights=content.get("source_state_dict"),
            model=meta["model"],
            categories=meta["categories"],
            test_scale=tuple(meta["test_scale"]),
            iterations=meta["iterations"],
            info=meta["info"],
        )
    except KeyError as error:
        raise ArtifactError(f"{path} is damaged: it has no {error}") from error


def build_model(checkpoint: Checkpoint, path: Path, averaged: bool = True) -> nn.Module:
    """Build a checkpoint's model with its weights, in evaluation mode, on the CPU.

    Args:
        checkpoint: The checkpoint.
        path: Where it came from, for messages.
        averaged: Whether to take the averaged weights, where there are two sets.

    Raises:
        ArtifactError: The config names a module that is not registered, or the weights do not fit.
    """
    init_default_scope("mmdet")
    _check_types(checkpoint.model, path)
    model: nn.Module = mmdet_registry.MODELS.build(ConfigDict(checkpoint.model))
    weights = checkpoint.weights
    if not averaged and checkpoint.source_weights is not None:
        weights = checkpoint.source_weights
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        first = str(error).splitlines()[-1].strip()
        raise ArtifactError(
            f"{path} is damaged: its weights do not fit its model\n{first}"
        ) from error
    return model.eval()


def plain(value: Any) -> Any:
    """A config as plain dictionaries, lists, tuples, strings and numbers.

    Raises:
        UsageError: There is something else in it.
    """
    if isinstance(value, dict):
        return {str(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(plain(inner) for inner in value)
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise UsageError(f"the model config holds a {type(value).__name__}, which cannot be stored")


def _check_types(value: Any, path: Path) -> None:
    """Refuse a stored config whose ``type`` is more than the name of a known module.

    MMEngine would import and call whatever a dotted name leads to, and mmcv evaluates the name of
    a suppression.
    """
    if isinstance(value, dict):
        kind = value.get("type")
        if kind is not None and (not isinstance(kind, str) or not _is_known(kind)):
            raise ArtifactError(
                f"{path} is not to be trusted: its model has a part of type {kind!r}"
            )
        value = list(value.values())
    if isinstance(value, (list, tuple)):
        for inner in value:
            _check_types(inner, path)


def _is_known(name: str) -> bool:
    """Whether a name is that of a registered module or of an operator of mmcv."""
    name = name.removeprefix("mmdet.")
    registries = [
        v for module in (mmdet_registry, mmengine_registry) for v in vars(module).values()
    ]
    return name in mmcv.ops.__all__ or any(
        name in registry.module_dict for registry in registries if isinstance(registry, Registry)
    )


def _on_cpu(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.detach().cpu() for name, value in weights.items()}
