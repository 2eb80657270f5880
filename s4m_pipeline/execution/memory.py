"""What to do where a device's memory runs out: try again with less."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch

Found = TypeVar("Found")


def attempt(work: Callable[[], Found], size: int) -> Found | None:
    """What some work gives, or None where the device's memory does not suffice for it.

    In that case all that the work had made is freed, so that the caller can try less at once.

    Args:
        work: Gives no None of its own.
        size: How many things it works on together.

    Raises:
        torch.OutOfMemoryError: The memory does not suffice for one thing alone.
    """
    try:
        return work()
    except torch.OutOfMemoryError:
        if size == 1:
            raise
    # behind the handler, since the error holds on to what the work had made
    torch.cuda.empty_cache()
    return None
