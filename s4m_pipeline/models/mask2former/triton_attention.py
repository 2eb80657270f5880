"""Deformable attention in Triton, from the package `deformops` where it is installed.

Its kernels keep no samples for the backward pass, which PyTorch's form does. Their arithmetic stays
float32, as that of the other forms.
"""

from __future__ import annotations

import warnings
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
    """The kernels as `deformable.deformable_attention` calls them, tried once on the device.

    Args:
        device: Where the tensors are.

    Returns:
        None where they cannot run: no CUDA device, an old one, no `deformops`, or, with a warning,
        kernels that fail.
    """
    if device.type != "cuda" or torch.cuda.get_device_capability(device) < OLDEST_GPU:
        return None
    try:
        _try(device)
    except ImportError:
        return None
    except Exception as error:  # of Triton, the compiler it starts, or deformops itself
        reason = f"{type(error).__name__}: {error}".splitlines()[0][:200]
        warnings.warn(
            f"deformops' kernels do not run here ({reason}); PyTorch's are used instead",
            stacklevel=2,
        )
        return None
    return attend


def attend(value: Tensor, shapes: Tensor, places: Tensor, weights: Tensor) -> Tensor:
    """`deformable.deformable_attention` by `deformops`.

    Raises:
        ImportError: It is not installed.
    """
    from deformops.registry import msda

    starts = F.pad(shapes.prod(1).cumsum(0)[:-1], (1, 0))
    with torch.autocast(value.device.type, enabled=False):
        sums: Tensor = msda(value.float(), shapes, starts, places.float(), weights.float())
    return sums


def _try(device: torch.device) -> None:
    """Attend to one map of 2 x 2 cells, forward and backward, with Mask2Former's width."""
    with torch.enable_grad(), torch.inference_mode(False):
        value = torch.zeros(1, 4, 8, 32, device=device, requires_grad=True)
        places = torch.full((1, 4, 8, 1, 4, 2), 0.5, device=device)
        weights = torch.full((1, 4, 8, 1, 4), 0.25, device=device)
        shapes = torch.tensor([[2, 2]], device=device)
        attend(value, shapes, places, weights).sum().backward()
