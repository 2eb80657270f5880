"""How tensors leave a data worker.

Each tensor that comes by shared memory costs the training a connection to the worker, which the
worker answers between its other work: more than small ones are worth, of which a batch has many.
"""

from __future__ import annotations

from multiprocessing.reduction import ForkingPickler
from typing import Any

import torch
from torch import Tensor
from torch.multiprocessing.reductions import reduce_tensor

BY_VALUE = 65536
"""Most bytes of a tensor that goes through the pipe."""
PLAIN = frozenset({torch.bool, torch.uint8, torch.int32, torch.int64, torch.float32, torch.float64})
"""Types that NumPy has too."""


def send_small_tensors_by_value() -> None:
    """Make this process, a data worker, send small tensors by value."""
    ForkingPickler.register(Tensor, _reduced)


def _reduced(tensor: Tensor) -> Any:
    """How a tensor is put together again by who receives it."""
    small = tensor.numel() * tensor.element_size() <= BY_VALUE
    on_host = tensor.is_cpu and tensor.layout is torch.strided
    if small and on_host and tensor.dtype in PLAIN and not tensor.requires_grad:
        return torch.from_numpy, (tensor.numpy(),)
    return reduce_tensor(tensor)
