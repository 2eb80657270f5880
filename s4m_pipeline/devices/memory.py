"""What to do where a device's memory runs out: try again with less."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch

from s4m_pipeline.errors import is_out_of_memory

Found = TypeVar("Found")


def attempt(work: Callable[[], Found], size: int) -> Found | None:
    """What some work gives, or None where the device's memory does not suffice for it.

    In that case all that the work had made is freed, so that the caller can try less at once.

    Args:
        work: Gives no None of its own.
        size: How many things it works on together.

    Raises:
        RuntimeError: The memory does not suffice for one thing alone; torch's OutOfMemoryError,
            or what CUDA's libraries say in its place (``errors.is_out_of_memory``).
    """
    try:
        return work()
    except RuntimeError as error:
        if size == 1 or not is_out_of_memory(error):
            raise
    # behind the handler, since the error holds on to what the work had made
    torch.cuda.empty_cache()
    return None
