"""The checkpoint that a training leaves: weights and all that is needed to run them.

A file written by ``torch.save``, with tensors and plain values only: ``state_dict`` (the averaged
weights if there are any, under MMDetection's names), ``source_state_dict`` (the last weights, where
they differ), and ``meta`` (format, model config, categories, test scale, iterations).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from mmdet.registry import MODELS
from mmengine.config import ConfigDict
from mmengine.registry import init_default_scope
from torch import Tensor, nn

from s4m_pipeline.artifacts.durable import put_in_place
from s4m_pipeline.artifacts.plain_files import clear_the_way
from s4m_pipeline.devices.finite import not_finite
from s4m_pipeline.errors import ArtifactError, S4MError, UsageError
from s4m_pipeline.models.model_config import parts_of, read_model_config
from s4m_pipeline.models.safe_load import load_checkpoint_file
from s4m_pipeline.models.trust.build_bounds import held_to
from s4m_pipeline.models.trust.model_check import (
    NotListedError,
    as_configured,
    check_listed,
    check_scale,
    for_prediction,
    is_usual_scale,
)
from s4m_pipeline.models.trust.model_list import TRAINING

FORMAT = "s4m-checkpoint"
VERSION = 1
PARTS = ("model", "categories", "test_scale", "iterations", "info")
"""What stands in ``meta`` beside the format."""


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
    unfinished = clear_the_way(path.with_name(f".{path.name}.{os.getpid()}.part"))
    torch.save(content, unfinished)
    put_in_place(unfinished, path)


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
    missing = [name for name in PARTS if name not in meta]
    if "state_dict" not in content or missing:
        name = missing[0] if missing else "state_dict"
        raise ArtifactError(f"{path} is damaged: it has no '{name}'")
    parts: dict[str, Any] = {
        name: content.get(name) for name in ("state_dict", "source_state_dict")
    }
    parts |= {name: meta[name] for name in PARTS}
    wrong = [name for name, is_right in _RIGHT.items() if not is_right(parts[name])]
    if wrong:
        raise ArtifactError(f"{path} is damaged: its '{wrong[0]}' is not what a training writes")
    return Checkpoint(
        weights=parts["state_dict"],
        source_weights=parts["source_state_dict"],
        model=parts["model"],
        categories=parts["categories"],
        test_scale=tuple(parts["test_scale"]),
        iterations=parts["iterations"],
        info=parts["info"],
    )


def _are_tensors(value: Any) -> bool:
    return isinstance(value, dict) and all(
        isinstance(name, str) and isinstance(inner, Tensor) for name, inner in value.items()
    )


def _are_categories(value: Any) -> bool:
    return isinstance(value, list) and all(
        isinstance(one, dict) and type(one.get("id")) is int and isinstance(one.get("name"), str)
        for one in value
    )


def _is_scale(value: Any) -> bool:
    numbers = value if isinstance(value, (tuple, list)) else ()
    return len(numbers) == 2 and all(type(side) is int and 0 < side <= 1 << 16 for side in numbers)


_RIGHT: dict[str, Callable[[Any], bool]] = {
    "state_dict": _are_tensors,
    "source_state_dict": lambda value: value is None or _are_tensors(value),
    "model": lambda value: isinstance(value, dict),
    "categories": _are_categories,
    "test_scale": _is_scale,
    "iterations": lambda value: type(value) is int and value >= 0,
    "info": lambda value: isinstance(value, dict),
}
"""What each part of a checkpoint has to be."""


def build_model(
    checkpoint: Checkpoint, path: Path, averaged: bool = True, own_models: Sequence[str] = ()
) -> nn.Module:
    """Build a checkpoint's model with its weights, in evaluation mode, on the CPU.

    What only a training reads is left out. A model that is not of listed parts alone is built from
    the run's own model config that describes it, never from the checkpoint.

    Args:
        checkpoint: The checkpoint.
        path: Where it came from, for messages.
        averaged: Whether to take the averaged weights, where there are two sets.
        own_models: Names or paths of the model configs that the run's own file names.

    Raises:
        ArtifactError: The model asks for what is not on the list, cannot be built, or the weights
            do not fit it.
    """
    weights = checkpoint.weights
    if not averaged and checkpoint.source_weights is not None:
        weights = checkpoint.source_weights
    settings, is_own = _trusted(checkpoint, path, own_models)
    fault = not_finite(weights) or _other_classes(settings, len(checkpoint.categories))
    if fault is not None:
        raise ArtifactError(f"{path} is damaged: {fault}")
    with nullcontext() if is_own else held_to(weights, path):
        model = _build(settings, path)
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        first = str(error).splitlines()[-1].strip()
        raise ArtifactError(
            f"{path} is damaged: its weights do not fit its model\n{first}"
        ) from error
    return model.eval()


def _other_classes(model: dict[str, Any], count: int) -> str | None:
    """What is wrong where a model has another number of classes than there are categories."""
    for part in parts_of(model):
        for key in ("num_things_classes", "num_classes"):
            if part.get(key, count) != count:
                return f"its model has {part[key]} classes, but it lists {count} categories"
    return None


def _build(model: dict[str, Any], path: Path) -> nn.Module:
    init_default_scope("mmdet")
    try:
        return MODELS.build(ConfigDict(model))
    except (S4MError, MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # whatever MMDetection says of values that do not go together
        first = (str(error).strip().splitlines() or [type(error).__name__])[-1][:200]
        raise ArtifactError(f"{path} is damaged: its model cannot be built\n{first}") from error


def _trusted(
    checkpoint: Checkpoint, path: Path, own_models: Sequence[str]
) -> tuple[dict[str, Any], bool]:
    """The model that a checkpoint describes, as it may be built, and whether it is the run's own.

    A scale of testing beyond those of all models that ship counts as what is not on the list.
    """
    try:
        check_listed(checkpoint.model)
        check_scale(checkpoint.test_scale)
        return {TRAINING: None, **for_prediction(checkpoint.model)}, False
    except NotListedError as fault:
        own = _same_of(own_models, checkpoint)
        if own is not None:
            return own, True
        raise ArtifactError(
            f"{path} is not to be trusted: {fault},\nwhich is not on the list of what a checkpoint "
            "may ask for. If the model is your own,\nset teacher.model or student.model to the "
            "config that it was trained with."
        ) from fault


def _same_of(own_models: Sequence[str], checkpoint: Checkpoint) -> dict[str, Any] | None:
    """That of the run's own models which a checkpoint describes, as it is built for prediction."""
    try:
        stored = plain(as_configured(checkpoint.model))
    except (NotListedError, UsageError):
        return None
    for name in own_models:
        config = read_model_config(name, len(checkpoint.categories))
        own = plain(config.model.to_dict())
        own_scale = tuple(config.test_scale) == checkpoint.test_scale
        if as_configured(own) == stored and (own_scale or is_usual_scale(checkpoint.test_scale)):
            model: dict[str, Any] = for_prediction(own)
            return model
    return None


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


def _on_cpu(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.detach().cpu() for name, value in weights.items()}
