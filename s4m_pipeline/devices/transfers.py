"""Tensors between host and device without waiting for what the device is still at.

A copy between the device and ordinary memory waits for all earlier work of the device; one between
the device and pinned memory takes its turn and lets the caller go on.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np
import torch
from torch import Tensor


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """A host tensor's copy on the device; what is there, or on the CPU, is returned itself."""
    if device.type != "cuda" or tensor.device.type != "cpu":
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)


def upload(tensor: Tensor, device: torch.device) -> Tensor:
    """A host tensor's copy on the device, made beside what the device is still at.

    For images, which are large; `to_device` waits its turn in the device's queue instead.
    """
    if device.type != "cuda" or tensor.device.type != "cpu":
        return tensor.to(device)
    computing, copying = torch.cuda.current_stream(device), _copying(device)
    with torch.cuda.stream(copying):
        copied = tensor.pin_memory().to(device, non_blocking=True)
    computing.wait_stream(copying)
    copied.record_stream(computing)  # its memory is not to be given away before that is through
    return copied


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
    """A tensor's copy on the host, begun at once and waited for where it is read.

    Args:
        tensor: On any device; not to be changed in place afterwards.
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
