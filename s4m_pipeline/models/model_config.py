"""Model configs: finding one by name, and fitting it to the categories of a data set."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from mmengine.config import Config, ConfigDict

from s4m_pipeline.configs import PACKAGE, backbone_weights, model_config_path, start_weights
from s4m_pipeline.errors import UsageError

OUR_TYPES = {
    "Mask2FormerHead": "DistillingMask2FormerHead",
    "MaskFormerFusionHead": "ScoringFusionHead",
    "SyncBN": "BN",
}
"""Types in a model config that are replaced, with what replaces them."""


def read_model_config(model: str | Path, class_count: int) -> Config:
    """Read a model's config and set its class counts.

    An MMEngine config is Python code, and reading it runs that code: give only paths that you
    trust.

    Args:
        model: A name in ``configs/models``, or a path to an MMEngine config.
        class_count: Number of categories.

    Returns:
        The config; ``model`` in it fits the categories. ``start``, the file of weights to start
        from, and the ``weights`` of a backbone are absolute paths, where the config names any.

    Raises:
        UsageError: There is no such config, or it cannot be used.
    """
    path = model_config_path(model)
    try:
        config = Config.fromfile(path)
    except Exception as error:  # whatever the user's Python code raises
        raise UsageError(f"cannot read the model config {path}: {error}") from error
    for key in ("model", "train_pipeline", "optim_wrapper"):
        if key not in config:
            raise UsageError(f"the model config {path} has no '{key}'")
    if "test_scale" not in config:
        config.test_scale = _scale_of(config.get("test_pipeline", []), path)
    start = start_weights(path)
    if config.get("start") and start is None:
        raise UsageError(f'{path}: write start = "FILE" on a line of its own, not computed')
    config.start = None if start is None else str(start)
    _find_backbone_weights(config.model, path)
    fit_to_classes(config.model, class_count)
    return config


def fit_to_classes(model: ConfigDict, class_count: int) -> None:
    """Set every class count in a model's config, in place.

    Mask2Former's heads get ``class_count`` things and no stuff, its classification loss one weight
    a class; other models' ``num_classes`` is set wherever it stands. Mask2Former's heads become
    ours, which have the same weights; synchronised batch normalisation, which needs
    several processes, becomes the plain one.
    """
    for part in parts_of(model):
        if "num_things_classes" in part:
            part.num_things_classes, part.num_stuff_classes = class_count, 0
            loss = part.get("loss_cls", {})
            if "class_weight" in loss:
                loss.class_weight = [1.0] * class_count + [loss.class_weight[-1]]
        if "num_classes" in part:
            part.num_classes = class_count
        part_type = part.get("type")
        if isinstance(part_type, str) and part_type in OUR_TYPES:
            part.type = OUR_TYPES[part_type]
    queries = model.get("panoptic_head", {}).get("num_queries")
    test: Any = model.get("test_cfg") or {}
    if queries and "max_per_image" in test:
        test.max_per_image = min(test.max_per_image, queries * class_count)


def _find_backbone_weights(model: ConfigDict, path: Path) -> None:
    """Make the ``weights`` of timm backbones absolute, in place; the config's digest has them."""
    known = backbone_weights(path)
    for part in parts_of(model):
        weights = part.get("weights")
        if part.get("type") != "TimmBackbone" or not weights or weights.startswith(PACKAGE):
            continue
        if weights not in known:
            raise UsageError(f'{path}: write the backbone\'s weights="{weights}" out, not computed')
        part.weights = str(known[weights])


def parts_of(value: Any) -> Iterator[Any]:
    """All dictionaries inside a config."""
    if isinstance(value, dict):
        yield value
        for inner in value.values():
            yield from parts_of(inner)
    elif isinstance(value, (list, tuple)):
        for inner in value:
            yield from parts_of(inner)


def _scale_of(pipeline: Sequence[dict[str, Any]], path: Path) -> tuple[int, int]:
    """The scale of the first resizing transform of a test pipeline."""
    for transform in pipeline:
        if transform.get("type") == "Resize" and "scale" in transform:
            return tuple(transform["scale"])
    raise UsageError(f"the model config {path} has no 'test_scale' and no Resize in test_pipeline")
