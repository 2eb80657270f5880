"""A stand-in for ``mmcv._ext``, mmcv's compiled operators, made of torchvision's.

The names and argument lists are those under which ``mmcv.ops`` calls its extension: results are
written into tensors that the caller hands in. An operator that is not served here exists as an
attribute, as mmcv's loader demands, and raises :class:`MissingOperatorError` when it is called.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any, NoReturn

import torch
import torchvision
from torch import Tensor

from s4m_pipeline.errors import UsageError

AVERAGE_POOLING = 1


class MissingOperatorError(UsageError):
    """A model called a compiled operator that nothing here replaces."""


def nms(bboxes: Tensor, scores: Tensor, iou_threshold: float, offset: int) -> Tensor:
    """Non-maximum suppression.

    Args:
        bboxes: float (N, 4) x0, y0, x1, y1.
        scores: float (N,).
        iou_threshold: Boxes that overlap a better one by more are left out.
        offset: 0 or 1; a box is ``x1 - x0 + offset`` wide.

    Returns:
        int64 indices of the boxes kept, best first.
    """
    if offset:
        bboxes = bboxes + bboxes.new_tensor([0, 0, offset, offset])
    return torchvision.ops.nms(bboxes, scores, iou_threshold)


def roi_align_forward(
    features: Tensor,
    rois: Tensor,
    output: Tensor,
    argmax_y: Tensor,
    argmax_x: Tensor,
    *,
    aligned_height: int,
    aligned_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: int,
    aligned: bool,
) -> None:
    """Average RoIAlign of (B, C, H, W) ``features`` into ``output`` (N, C, height, width).

    ``rois`` is (N, 5): image index, x0, y0, x1, y1. The argmax tensors belong to max pooling.

    Raises:
        MissingOperatorError: For max pooling, which torchvision does not have.
    """
    _only_average(pool_mode)
    pooled = torch.ops.torchvision.roi_align(
        features, rois, spatial_scale, aligned_height, aligned_width, sampling_ratio, aligned
    )
    output.copy_(pooled)


def roi_align_backward(
    grad_output: Tensor,
    rois: Tensor,
    argmax_y: Tensor,
    argmax_x: Tensor,
    grad_input: Tensor,
    *,
    aligned_height: int,
    aligned_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: int,
    aligned: bool,
) -> None:
    """Add the gradient of :func:`roi_align_forward` to ``grad_input`` (B, C, H, W)."""
    _only_average(pool_mode)
    grad = torch.ops.torchvision._roi_align_backward(
        grad_output.contiguous(),
        rois,
        spatial_scale,
        aligned_height,
        aligned_width,
        *grad_input.shape,
        sampling_ratio,
        aligned,
    )
    grad_input.add_(grad)


SERVED: dict[str, Callable[..., Any]] = {
    "nms": nms,
    "roi_align_forward": roi_align_forward,
    "roi_align_backward": roi_align_backward,
}


def stand_in(name: str) -> ModuleType:
    """Make the module that answers for ``mmcv._ext``.

    Args:
        name: The module's full name.

    Returns:
        A module with the attribute ``is_stand_in`` and one callable for any other public name.
    """
    module = ModuleType(name, "Stand-in for mmcv's compiled operators.")
    # MMEngine looks for a loader to tell whether the operators are compiled: there is none.
    module.__spec__ = ModuleSpec(name, loader=None)
    module.is_stand_in = True  # type: ignore[attr-defined]
    for operator, function in SERVED.items():
        setattr(module, operator, function)
    module.__getattr__ = _missing  # type: ignore[method-assign]
    return module


def _missing(operator: str) -> Callable[..., NoReturn]:
    """Answer for an operator that is not served: a function that says so when called."""
    if operator.startswith("__"):
        raise AttributeError(operator)

    def call(*_args: object, **_kwargs: object) -> NoReturn:
        raise MissingOperatorError(
            f"this model needs the compiled operator '{operator}' of mmcv, which mmcv-lite lacks.\n"
            "Install a compiled mmcv (2.0 or 2.1) for this torch, or choose another model."
        )

    return call


def _only_average(pool_mode: int) -> None:
    if pool_mode != AVERAGE_POOLING:
        raise MissingOperatorError(
            "RoIAlign with max pooling needs a compiled mmcv; use pool_mode=avg."
        )
