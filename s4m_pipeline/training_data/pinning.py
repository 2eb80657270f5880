"""Data samples whose tensors a data loader pins, so that they go to a GPU without a wait.

A loader pins the images of a batch, and leaves MMDetection's data samples as they are.
"""

from __future__ import annotations

from typing import Any

from mmdet.structures.bbox import BaseBoxes
from mmengine.structures import BaseDataElement
from torch import Tensor


class Samples(list[Any]):
    """A batch's data samples."""

    def pin_memory(self, device: Any = None) -> Samples:
        """Pin all tensors of the samples, in place; what a loader's pinning thread calls."""
        return Samples(_pinned(sample) for sample in self)


def _pinned(value: Any) -> Any:
    """A tensor, or what holds tensors, pinned; masks have a way of their own and stay."""
    if isinstance(value, Tensor):
        return value.pin_memory()
    if isinstance(value, BaseBoxes):
        value.tensor = value.tensor.pin_memory()
    elif isinstance(value, BaseDataElement):
        for name, field in list(value.items()):
            value.set_data({name: _pinned(field)})
    return value
