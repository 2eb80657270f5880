"""Weights to start a training from: a whole checkpoint, or a bare backbone's.

Names may be MMDetection's (a checkpoint of ours or of MMDetection, torchvision's ResNet),
detectron2's, or those of Swin's authors.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mmdet.registry import MODELS
from mmengine.registry import init_default_scope
from torch import Tensor, nn

from s4m_pipeline.devices.finite import refuse_not_finite
from s4m_pipeline.errors import UsageError
from s4m_pipeline.models.conversion.source import in_our_names, read_content, tensors_of
from s4m_pipeline.models.model_config import read_model_config
from s4m_pipeline.models.openmmlab import prepare
from s4m_pipeline.models.vit_backbone import TimmViT

PREFIXES = ("", "network.", "segmentor.", "module.")
"""What files put before a network's names: MMEngine's checkpoints of our training wrapper, those of
0.1.0, and data-parallel training."""
LEAST_SHARE = 0.9
"""Share of a backbone's parameters that a file must hold, and of a file's backbone that must be
used: ImageNet files lack no more than the norms of a backbone's outputs."""


@dataclass(frozen=True, slots=True)
class _Fit:
    """A file's tensors under the model's names.

    Attributes:
        tensors: Those that fit.
        spare: Names of tensors that the model lacks or has in another shape.
    """

    tensors: dict[str, Tensor]
    spare: list[str]


def load_start_weights(network: nn.Module, path: Path) -> int:
    """Load all tensors whose name and shape fit; a class layer of other size stays as it is.

    Args:
        network: The model. The file may be of a whole model or of its backbone.
        path: The file.

    Returns:
        How many tensors were loaded.

    Raises:
        UsageError: The file is not a checkpoint, its backbone is not the model's, or what would be
            loaded is not finite.
    """
    tensors = tensors_of(read_content(path), path)
    own = network.state_dict()
    options = [
        _fitting(own, tensors, prefix, inner) for prefix in PREFIXES for inner in ("", "backbone.")
    ]
    options.append(_fitting(own, in_our_names(tensors), "", ""))
    backbone = getattr(network, "backbone", None)
    if isinstance(backbone, TimmViT):
        options.append(_fitting(own, backbone.own_tensors(tensors), "", "backbone."))
    best = max(options, key=lambda option: len(option.tensors))
    _refuse_another_backbone(network, best, path)
    refuse_not_finite(best.tensors, path)
    network.load_state_dict(best.tensors, strict=False)
    return len(best.tensors)


def check_start_weights(model: str | Path, classes: int, path: Path) -> tuple[int, int]:
    """Check, before a training, that it can start from a file of weights.

    Args:
        model: Name or path of the model config.
        classes: How many classes it has.
        path: The file of weights.

    Returns:
        How many tensors start from the file, and how many the model has.

    Raises:
        UsageError: As :func:`load_start_weights`.
    """
    prepare()
    init_default_scope("mmdet")
    network = MODELS.build(read_model_config(model, classes).model)
    return load_start_weights(network, path), len(network.state_dict())


def _refuse_another_backbone(network: nn.Module, fit: _Fit, path: Path) -> None:
    backbone = getattr(network, "backbone", nn.Identity())
    parameters = {f"backbone.{name}" for name, _ in backbone.named_parameters()}
    count = len(parameters & set(fit.tensors))
    parts = tuple(f"backbone.{name}." for name, _ in backbone.named_children())
    spare = [n for n in fit.spare if n.startswith(parts) and n.endswith((".weight", ".bias"))]
    fault = ""
    if count < LEAST_SHARE * len(parameters):
        fault = f"they hold {count} of the {len(parameters)} parameters of its backbone"
    elif count < LEAST_SHARE * (count + len(spare)):
        fault = f"{len(spare)} of their backbone's tensors have no place in it"
    if fault:
        raise UsageError(
            f"these weights do not fit the model: {path}\n{fault}; are they of another network?"
        )


def _fitting(
    own: Mapping[str, Tensor], tensors: Mapping[str, Tensor], outer: str, inner: str
) -> _Fit:
    """What fits once the prefix ``outer`` is replaced by the prefix ``inner``."""
    fit = _Fit({}, [])
    for name, value in tensors.items():
        if name.startswith(outer):
            target = inner + name[len(outer) :]
            if target in own and own[target].shape == value.shape:
                fit.tensors[target] = value
            else:
                fit.spare.append(target)
    return fit
