"""The device a stage runs on, and a worker's share of it."""

from __future__ import annotations

import os
from dataclasses import dataclass

from s4m_pipeline.errors import UsageError

ALWAYS_THERE = ("auto", "cpu")
"""Devices that every machine has."""


@dataclass(frozen=True, slots=True)
class Place:
    """Which of a stage's workers this is.

    Attributes:
        index: From 0; it decides which of several devices is the worker's.
        workers: How many workers there are.
    """

    index: int = 0
    workers: int = 1


def resolve_device(name: str) -> str:
    """Turn ``auto`` into ``cuda`` where there is one, else ``cpu``; check any other name.

    Raises:
        UsageError: torch knows no such device, or it is not there.
    """
    import torch

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise UsageError(f"device: torch knows no device '{name}'") from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise UsageError(f"device: '{name}' was asked for, but torch sees no CUDA device here")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        count = torch.cuda.device_count()
        raise UsageError(f"device: '{name}' was asked for, but torch sees only {count} of them")
    return name


def gpus_of(device: str) -> int:
    """How many GPUs a device's workers share: all of the machine's for ``cuda``."""
    import torch

    if not device.startswith("cuda"):
        return 0
    return max(1, torch.cuda.device_count()) if device == "cuda" else 1


def side_by_side(device: str, workers: int) -> int:
    """How many of the workers can work at the same time: one a GPU, or one a core."""
    return max(1, min(workers, gpus_of(device) or os.cpu_count() or 1))


def settle(device: str, place: Place) -> str:
    """Give a worker its device, one of several GPUs, or its share of the processor's threads."""
    import torch

    if device == "cuda" and torch.cuda.device_count() > 1:
        device = f"cuda:{place.index % torch.cuda.device_count()}"
    if device.startswith("cuda:"):
        torch.cuda.set_device(device)  # streams and events are the current device's
    if place.workers > 1 and device == "cpu":
        share = max(1, (os.cpu_count() or 1) // place.workers)
        torch.set_num_threads(min(share, torch.get_num_threads()))
    return device
