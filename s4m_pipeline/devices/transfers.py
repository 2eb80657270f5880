"""Tensors between host and device without waiting for the device's earlier work.

A copy between the device and ordinary memory waits until the device has done all its earlier work.
A copy between the device and pinned memory is queued, and the caller does not wait.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np
import torch
from torch import Tensor


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """A host tensor's copy on the device; the tensor itself where it is on that device already."""
    if device.type != "cuda" or tensor.device.type != "cpu":
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)


def upload(tensor: Tensor, device: torch.device) -> Tensor:
    """A host tensor's copy on the device, made at the same time as the device's earlier work.

    Meant for images, which are large; the copy of `to_device` waits for that work instead.
    """
    if device.type != "cuda" or tensor.device.type != "cpu":
        return tensor.to(device)
    computing, copying = torch.cuda.current_stream(device), _copying(device)
    with torch.cuda.stream(copying):
        copy = tensor.pin_memory().to(device, non_blocking=True)
    computing.wait_stream(copying)
    copy.record_stream(computing)  # keeps its memory until that stream has used it
    return copy


@cache
def _copying(device: torch.device) -> torch.cuda.Stream:
    """The stream on which a device gets its images."""
    return torch.cuda.Stream(device)


def bytes_to_device(parts: Sequence[np.ndarray], device: torch.device) -> Tensor:
    """Arrays of bytes, one after another along their first axis, in one copy.

    Args:
        parts: At least one; bool or uint8, of the same shape but for the first axis.
        device: Where they go.

    Returns:
        uint8.
    """
    shape = (sum(len(part) for part in parts), *parts[0].shape[1:])
    host = torch.empty(shape, dtype=torch.uint8, pin_memory=device.type == "cuda")
    np.concatenate(parts, out=host.numpy(), casting="unsafe")
    return host.to(device, non_blocking=True)


class HostCopy:
    """A tensor's copy on the host, begun at once and waited for when it is read.

    Args:
        tensor: On any device; must not be changed in place afterwards.
    """

    def __init__(self, tensor: Tensor) -> None:
        self._arrived: torch.cuda.Event | None = None
        if tensor.is_cuda:
            self._tensor = torch.empty_like(tensor, device="cpu", pin_memory=True)
            self._tensor.copy_(tensor, non_blocking=True)
            self._arrived = torch.cuda.Event()
            # the copy is on the stream of the tensor's device, which need not be the current one
            self._arrived.record(torch.cuda.current_stream(tensor.device))
        else:
            self._tensor = tensor.cpu()

    def array(self) -> np.ndarray:
        """The values, once they have arrived."""
        if self._arrived is not None:
            self._arrived.synchronize()
        values: np.ndarray = self._tensor.numpy()
        return values
