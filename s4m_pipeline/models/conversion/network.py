"""The network of a converted checkpoint: its config, and whether the tensors fill it exactly."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.registry import init_default_scope
from torch import Tensor

from s4m_pipeline.errors import ArtifactError, UsageError
from s4m_pipeline.models.conversion.detectron2 import COUNT
from s4m_pipeline.models.model_config import fit_to_classes, read_model_config

MODELS_OF: dict[tuple[str, tuple[int, ...], int], str] = {
    ("ResNet", (3, 4, 6, 3), 64): "mask2former_r50",
    ("ResNet", (3, 4, 23, 3), 64): "mask2former_r101",
    ("Swin", (2, 2, 6, 2), 96): "mask2former_swin_t",
    ("Swin", (2, 2, 18, 2), 96): "mask2former_swin_s",
    ("Swin", (2, 2, 18, 2), 128): "mask2former_swin_b",
    ("Swin", (2, 2, 18, 2), 192): "mask2former_swin_l",
}
"""Beginning of a model config's name by kind of backbone, blocks a stage and first channels."""
NAMES = (
    ("ResNet", 1, "backbone.conv1.weight", "backbone.layer{}.{}.conv1.weight"),
    (
        "Swin",
        0,
        "backbone.patch_embed.projection.weight",
        "backbone.stages.{}.blocks.{}.norm1.bias",
    ),
)
"""Kind of backbone, number of its first stage, name of its first layer and of a block's tensor."""
CLASSES = "panoptic_head.cls_embed.bias"
QUERIES = "panoptic_head.query_feat.weight"
INDEX = "relative_position_index"
LISTED = 6
"""Most names that a message lists."""


def class_count(tensors: Mapping[str, Tensor], path: Path) -> int:
    """How many classes a Mask2Former under MMDetection's names has, "no object" left out.

    Raises:
        ArtifactError: It has none.
    """
    count = len(_required(tensors, CLASSES, path)) - 1
    if not count:
        raise ArtifactError(f"{path} is no whole Mask2Former: it has no class but 'no object'")
    return count


def known_model(tensors: Mapping[str, Tensor], recipe: str, path: Path) -> str:
    """The model config that has a checkpoint's backbone, with its data set's recipe.

    Args:
        tensors: A Mask2Former's tensors under MMDetection's names.
        recipe: "coco" or "cityscapes", the data set whose scales and schedule the config has.
        path: The file, for messages.

    Raises:
        UsageError: The backbone is none of the known ones.
        ArtifactError: The backbone's first layer has no weights.
    """
    for kind, start, first, block in NAMES:
        if first in tensors:
            blocks = tuple(_count(tensors, block, stage) for stage in range(start, start + 4))
            width = len(_required(tensors, first, path))
            model = MODELS_OF.get((kind, blocks, width))
            if model is not None:
                return f"{model}_{recipe}"
    raise UsageError(
        f"{path} has none of the backbones ResNet-50, ResNet-101 and Swin-T, -S, -B and -L.\n"
        "Give --model, a config that has the same network."
    )


def network_config(
    model: str, tensors: Mapping[str, Tensor], class_weights: list[float] | None, path: Path
) -> Config:
    """Read a model config and fit it to a checkpoint's classes and queries.

    Args:
        model: Name or path of the config.
        tensors: The checkpoint's tensors under MMDetection's names.
        class_weights: Weight of each class in the loss, the last of "no object"; None to keep the
            config's.
        path: The file, for messages.

    Raises:
        UsageError: The config cannot be read, or its model has no counterpart in detectron2.
        ArtifactError: The checkpoint is not whole.
    """
    classes = class_count(tensors, path)
    config = read_model_config(model, classes)
    check_convertible(config.model, f"model '{model}'")
    config.model.panoptic_head.num_queries = len(_required(tensors, QUERIES, path))
    fit_to_classes(config.model, classes)
    if class_weights is not None:
        if len(class_weights) != classes + 1:
            raise ArtifactError(
                f"{path} has {classes} classes, but the loss weighs {len(class_weights) - 1}"
            )
        config.model.panoptic_head.loss_cls.class_weight = class_weights
    return config


def check_convertible(model: Mapping[str, Any], what: str) -> None:
    """Refuse a model that detectron2's Mask2Former has no counterpart of.

    Raises:
        UsageError: It is no Mask2Former, has another backbone, or a ResNet that strides elsewhere.
    """
    backbone = model.get("backbone", {})
    if model.get("type") != "Mask2Former" or "panoptic_head" not in model:
        raise UsageError(f"{what} is a {model.get('type')}; only Mask2Former can be converted")
    if backbone.get("type") not in ("ResNet", "SwinTransformer"):
        raise UsageError(
            f"{what} has the backbone {backbone.get('type')}; "
            "detectron2's Mask2Former has ResNet or SwinTransformer"
        )
    if backbone.get("style", "pytorch") != "pytorch":
        raise UsageError(
            f"{what} has a ResNet of style {backbone['style']!r}, whose 1 x 1 convolutions stride; "
            "Mask2Former's do not (STRIDE_IN_1X1 is False): use style 'pytorch'"
        )


def fitted(
    tensors: Mapping[str, Tensor], unmatched: list[str], config: Config, model: str, path: Path
) -> dict[str, Tensor]:
    """The tensors in the order of the config's network, which they fill exactly.

    Counts of batches that frozen normalisation does not have become 0; indices of relative
    positions, which follow from the window's size, must be the network's own or are filled in.

    Args:
        tensors: Tensors under MMDetection's names.
        unmatched: Names that have no counterpart in MMDetection.
        config: The config.
        model: Its name, for messages.
        path: The file, for messages.

    Raises:
        ArtifactError: Tensors are left over, missing, or of another shape; the message names them.
    """
    init_default_scope("mmdet")
    own = MODELS.build(config.model).state_dict()
    filled = {
        name: torch.zeros_like(value) if name.endswith(COUNT) else value
        for name, value in own.items()
        if name.endswith((COUNT, INDEX))
    }
    filled.update(tensors)
    faults = _faults(own, filled, unmatched)
    if faults:
        lines = [f"{len(names)} {what}: {shortened(names)}" for what, names in faults.items()]
        raise ArtifactError(f"{path} does not fit model '{model}':\n" + "; ".join(lines))
    return {name: filled[name] for name in own}


def _faults(
    own: Mapping[str, Tensor], filled: Mapping[str, Tensor], unmatched: list[str]
) -> dict[str, list[str]]:
    """Names of the tensors that do not fit a network, by what is wrong with them."""
    shapes = {
        name: (tuple(filled[name].shape), tuple(value.shape))
        for name, value in own.items()
        if name in filled
    }
    indices = [
        name for name, (shape, wanted) in shapes.items() if INDEX in name and shape == wanted
    ]
    faults = {
        "without a place": [*unmatched, *(name for name in filled if name not in own)],
        "missing": [name for name in own if name not in filled],
        "of another shape": [
            f"{name} {shape} for {wanted}"
            for name, (shape, wanted) in shapes.items()
            if shape != wanted
        ],
        "of another window": [n for n in indices if not torch.equal(filled[n].to(own[n]), own[n])],
    }
    return {what: names for what, names in faults.items() if names}


def shortened(names: list[str]) -> str:
    """The first of some names, and how many more there are."""
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return ", ".join(names[:LISTED]) + more


def _required(tensors: Mapping[str, Tensor], name: str, path: Path) -> Tensor:
    if name not in tensors or tensors[name].ndim == 0 or not len(tensors[name]):
        raise ArtifactError(f"{path} is no whole Mask2Former: it has no values for {name}")
    return tensors[name]


def _count(tensors: Mapping[str, Tensor], name: str, stage: int) -> int:
    """How many blocks of a stage there are."""
    count = 0
    while name.format(stage, count) in tensors:
        count += 1
    return count
