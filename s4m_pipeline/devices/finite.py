"""Weights that are not finite numbers: a network that has them predicts nothing."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from s4m_pipeline.errors import UsageError


def not_finite(tensors: Mapping[str, Tensor]) -> str | None:
    """Name the first tensor that holds a NaN or an infinite number, and how many there are.

    Args:
        tensors: Weights by name.

    Returns:
        A clause such as "3 of 64 values of 'head.weight' are NaN or infinite"; None where none is.
    """
    faults = []
    for name, value in tensors.items():
        count = 0 if _all_finite(value) else int((~torch.isfinite(_widened(value))).sum())
        if count:
            faults.append(f"{count} of {value.numel()} values of {name!a} are NaN or infinite")
    if not faults:
        return None
    more = f", and so it is in {len(faults) - 1} more" if len(faults) > 1 else ""
    return faults[0] + more


def refuse_not_finite(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Refuse weights that a training, a conversion or a segmenter would start from.

    Args:
        tensors: Weights by name.
        path: Their file, for the message.

    Raises:
        UsageError: Some are NaN or infinite.
    """
    fault = not_finite(tensors)
    if fault is not None:
        raise UsageError(f"these weights cannot be used: {path}\n{fault}")


def _all_finite(value: Tensor) -> bool:
    """Whether all values are finite, without a mask of all of them."""
    if not (value.is_floating_point() or value.is_complex()) or not value.numel():
        return True
    if value.is_complex():
        value = torch.view_as_real(value)
    least, most = _widened(value).aminmax()  # both are NaN where there is one
    return bool(torch.isfinite(least)) and bool(torch.isfinite(most))


def _widened(value: Tensor) -> Tensor:
    """Numbers of 8 or 16 bits as float32, for which everything is implemented."""
    return value.float() if value.is_floating_point() and value.itemsize < 4 else value
