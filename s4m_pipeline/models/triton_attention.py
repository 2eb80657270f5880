"""Deformable attention in Triton, from the package `deformops` where it is installed.

Its kernels keep no samples for the backward pass, which PyTorch's form does, and need no compiler.
Their arithmetic stays float32, as that of the other forms.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

OLDEST_GPU = (7, 0)
"""Compute capability from which the kernels run."""

Attention = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]


@lru_cache(maxsize=8)
def triton_attention(device: torch.device) -> Attention | None:
    """The kernels as `deformable.deformable_attention` calls them.

    Args:
        device: Where the tensors are.

    Returns:
        None where they cannot run: no CUDA device, an old one, or no `deformops`.
    """
    if device.type != "cuda" or torch.cuda.get_device_capability(device) < OLDEST_GPU:
        return None
    try:
        from deformops.registry import msda
    except ImportError:
        return None

    def attention(value: Tensor, shapes: Tensor, places: Tensor, weights: Tensor) -> Tensor:
        starts = F.pad(shapes.prod(1).cumsum(0)[:-1], (1, 0))
        with torch.autocast(device.type, enabled=False):
            found: Tensor = msda(value.float(), shapes, starts, places.float(), weights.float())
        return found

    return attention
