"""Converting a checkpoint between detectron2 (or MMDetection) and this program."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from s4m_pipeline.artifacts.manifest import check_listed
from s4m_pipeline.artifacts.plain_files import clear_the_way
from s4m_pipeline.devices.finite import refuse_not_finite
from s4m_pipeline.errors import ArtifactError, UsageError
from s4m_pipeline.models.checkpoints import Checkpoint, read_checkpoint, write_checkpoint
from s4m_pipeline.models.conversion.categories import classes_of
from s4m_pipeline.models.conversion.detectron2 import (
    CLASS_WEIGHTS,
    from_detectron2,
    to_detectron2,
)
from s4m_pipeline.models.conversion.keys import Renamed
from s4m_pipeline.models.conversion.network import (
    check_convertible,
    class_count,
    fitted,
    known_model,
    network_config,
    shortened,
)
from s4m_pipeline.models.conversion.source import (
    ONLY,
    PREFIXES,
    Layout,
    layout_of,
    read_content,
    split_models,
    tensors_of,
)
from s4m_pipeline.models.openmmlab import prepare

Target = Literal["mmdet", "detectron2"]
Which = Literal["teacher", "student"]
Models = dict[str, dict[str, Tensor]]
"""Tensors by model: ``teacher`` and ``student``, or :data:`ONLY`."""


@dataclass(frozen=True)
class Conversion:
    """What was converted.

    Attributes:
        layout: The source's layout.
        models: "one model", or which of "teacher" and "student".
        tensors: How many tensors were written, of all models.
        model: Name of the model config.
        classes: How many classes the model has, and where their names are from.
    """

    layout: Layout
    models: str
    tensors: int
    model: str
    classes: str


def convert_checkpoint(
    source: Path,
    out: Path,
    target: Target = "mmdet",
    model: str | None = None,
    which: Which | None = None,
    categories: str | None = None,
) -> Conversion:
    """Convert a checkpoint and write it; every tensor is accounted for.

    A mean teacher's checkpoint holds two models, and both are kept unless one is asked for. In a
    checkpoint of this program the teacher, an average of the student, is the averaged weights and
    the student the last ones. Detectron2's have the prefixes ``modelTeacher.``, ``modelStudent.``.

    Args:
        source: A Mask2Former of detectron2 (``.pth``, ``.pkl``) or MMDetection, or, to
            "detectron2", a checkpoint of this program.
        out: The file to write; one that is there is replaced.
        target: "mmdet" for this program's checkpoint, or "detectron2".
        model: Name or path of the model config; None to find it by the backbone. Only to "mmdet".
        which: "teacher" or "student", to write only one of two models.
        categories: As of ``classes_of``. Only to "mmdet".

    Raises:
        UsageError: The source is something else or holds weights that are not finite, or the
            options do not fit it.
        ArtifactError: Tensors are left over, missing, or of another shape.
    """
    check_listed(source)
    prepare()
    content = read_content(source)
    tensors = tensors_of(content, source)
    layout = layout_of(content, tensors, source)
    if target == "detectron2":
        if layout != "s4m":
            raise UsageError(f"{source} is no checkpoint of s4m; that is what goes to detectron2")
        return _write_detectron2(source, out, which)
    if layout == "s4m":
        raise UsageError(f"{source} is a checkpoint of s4m already")
    models = _chosen(split_models(tensors), which, source)
    for weights in models.values():
        refuse_not_finite(weights, source)
    return _write_ours(content, models, layout, source, out, model, categories)


def _chosen(models: Models, which: str | None, source: Path) -> Models:
    """The model that is asked for, or all."""
    if which is None:
        return models
    if which not in models:
        held = " and ".join(models) if ONLY not in models else "one model, no teacher and student"
        raise UsageError(f"{source} holds {held}; leave --which out")
    return {ONLY: models[which]}


def _write_ours(
    content: Mapping[str, Any],
    models: Models,
    layout: Layout,
    source: Path,
    out: Path,
    model: str | None,
    categories: str | None,
) -> Conversion:
    """Write a checkpoint of this program."""
    class_weights = [_take_class_weights(tensors) for tensors in models.values()]
    parts = [_ours(tensors, layout) for tensors in models.values()]
    first = parts[0].tensors
    classes = classes_of(categories, class_count(first, source))
    model = model or known_model(first, classes.recipe, source)
    config = network_config(model, first, class_weights[0], source)
    done = [fitted(part.tensors, part.unmatched, config, model, source) for part in parts]
    out.parent.mkdir(parents=True, exist_ok=True)
    iteration = content.get("iteration")
    checkpoint = Checkpoint(
        weights=done[0],
        source_weights=done[1] if len(done) > 1 else None,
        model=config.model.to_dict(),
        categories=classes.categories,
        test_scale=tuple(config.test_scale),
        iterations=iteration + 1 if isinstance(iteration, int) else 0,
        info={"config": model, "converted_from": f"{layout}: {source.name}"},
    )
    write_checkpoint(out, checkpoint)
    named = f"{len(classes.categories)} classes ({classes.source})"
    return Conversion(layout, _in_words(models), sum(map(len, done)), model, named)


def _ours(tensors: Mapping[str, Tensor], layout: Layout) -> Renamed:
    return from_detectron2(tensors) if layout == "detectron2" else Renamed(dict(tensors))


def _take_class_weights(tensors: dict[str, Tensor]) -> list[float] | None:
    """Take out the classes' weights in the loss, which are no weights of the network."""
    weights = tensors.pop(CLASS_WEIGHTS, None)
    return None if weights is None else [float(value) for value in weights.flatten()]


def _write_detectron2(source: Path, out: Path, which: str | None) -> Conversion:
    """Write a checkpoint that detectron2's checkpointer loads into Mask2Former."""
    stored = read_checkpoint(source)
    check_convertible(stored.model, f"the model of {source}")
    class_weights = list(stored.model["panoptic_head"]["loss_cls"]["class_weight"])
    models: Models = {ONLY: stored.weights}
    if stored.source_weights is not None:
        models = {"teacher": stored.weights, "student": stored.source_weights}
    models = _chosen(models, which, source)
    for weights in models.values():
        refuse_not_finite(weights, source)
    tensors: dict[str, Tensor] = {}
    for name, part in models.items():
        renamed = to_detectron2(part, class_weights)
        if renamed.unmatched:
            raise ArtifactError(
                f"{source}: {len(renamed.unmatched)} tensors have no counterpart in detectron2:\n"
                f"{shortened(renamed.unmatched)}"
            )
        tensors |= {PREFIXES[name] + inner: value for inner, value in renamed.tensors.items()}
    out.parent.mkdir(parents=True, exist_ok=True)
    unfinished = clear_the_way(out.with_name(f".{out.name}.{os.getpid()}.part"))
    torch.save({"model": tensors, "__author__": "s4m"}, unfinished)
    os.replace(unfinished, out)
    model = str(stored.info.get("config", stored.model["type"]))
    classes = f"{len(stored.categories)} classes"
    return Conversion("s4m", _in_words(models), len(tensors), model, classes)


def _in_words(models: Models) -> str:
    """Which models a file holds."""
    return " and ".join(models) or "one model"
