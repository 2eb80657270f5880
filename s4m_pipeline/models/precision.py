"""Training in bfloat16: what is computed in it, and how a step is taken.

Weights, gradients and the optimizer's state stay float32, and so do checkpoints and the average.
Autocast computes convolutions and matrix products of the forward pass in bfloat16. These stay
float32: the sampling of deformable attention, the regions that other models cut out of their maps,
matching, all losses of Mask2Former, the structural loss and the whole validation. bfloat16 has
float32's range, so losses are not scaled.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from mmdet.models.roi_heads.roi_extractors import BaseRoIExtractor
from mmengine.optim import OptimWrapper
from mmengine.registry import OPTIM_WRAPPERS
from torch import nn

FLOAT32, BFLOAT16 = "float32", "bfloat16"


def resolved_precision(precision: str, device: str) -> str:
    """The precision that a training computes in.

    Args:
        precision: "float32", "bfloat16", or "auto": bfloat16 on a GPU that has it in its hardware
            (emulated, it is slower than float32).
        device: "cpu", "cuda", "cuda:N" or "auto".

    Returns:
        "float32" or "bfloat16".
    """
    if precision != "auto":
        return precision
    kind, _, number = device.partition(":")
    if kind == "cpu" or not torch.cuda.is_available():
        return FLOAT32
    with torch.cuda.device(int(number or torch.cuda.current_device())):
        has_it = torch.cuda.is_bf16_supported(including_emulation=False)
    return BFLOAT16 if has_it else FLOAT32


def optimizer_wrapper(settings: dict[str, Any], precision: str) -> dict[str, Any]:
    """A model config's ``optim_wrapper`` for a precision.

    Args:
        settings: The config's; gradient clipping and the settings of single parameters stay. In
            float32 a wrapper of another kind than MMEngine's plain one is left as it is.
        precision: "float32" or "bfloat16".
    """
    plain = settings.get("type", "OptimWrapper") in ("OptimWrapper", OptimWrapper)
    if precision == FLOAT32 and not plain:
        return settings
    own = {k: v for k, v in settings.items() if k not in ("dtype", "loss_scale", "use_fsdp")}
    return own | {"type": "AutocastOptimWrapper", "precision": precision}


def extract_regions_in_float32(network: nn.Module) -> None:
    """Make a network cut regions out of its features in float32.

    MMDetection gives regions the features' type, and bfloat16 has steps of 4 px at 512 px.
    """
    for module in network.modules():
        if isinstance(module, BaseRoIExtractor):
            module.register_forward_pre_hook(_in_float32)


def _in_float32(_module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    features, regions, *rest = inputs
    return tuple(level.float() for level in features), regions.float(), *rest


@OPTIM_WRAPPERS.register_module()
class AutocastOptimWrapper(OptimWrapper):
    """MMEngine's optimizer wrapper with bfloat16 on any device, and without waiting for it.

    MMEngine's own for mixed precision refuses a CPU and scales losses, and both copy the
    gradients' norm to the host in each step.

    Args:
        precision: "float32" or "bfloat16".
        **kwargs: As of ``OptimWrapper``.
    """

    def __init__(self, precision: str = FLOAT32, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.precision = precision

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        """The context of a step's forward pass."""
        device = next(model.parameters()).device.type
        lower = self.precision == BFLOAT16
        cast = torch.autocast(device, torch.bfloat16) if lower else nullcontext()
        with super().optim_context(model), cast:
            yield

    def step(self, **kwargs: Any) -> None:
        """Clip the gradients, where the config asks for it, and update the parameters."""
        if self.clip_grad_kwargs:
            groups = (group["params"] for group in self.optimizer.param_groups)
            parameters = [
                p for group in groups for p in group if p.requires_grad and p.grad is not None
            ]
            if parameters:
                self.clip_func(parameters, **self.clip_grad_kwargs)
        self.optimizer.step(**kwargs)
