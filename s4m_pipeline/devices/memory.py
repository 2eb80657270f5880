"""What to do when a device's memory runs out: try again with less."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch

from s4m_pipeline.errors import is_out_of_memory

Result = TypeVar("Result")


def attempt(work: Callable[[], Result], size: int) -> Result | None:
    """Do some work, unless the device's memory does not suffice for it.

    In that case all that the work had made is freed, so that the caller can try again with less.

    Args:
        work: Does not return None itself.
        size: How many things it works on together.

    Returns:
        What the work returned; None where the memory did not suffice.

    Raises:
        RuntimeError: The memory does not suffice even for one thing: torch's OutOfMemoryError,
            or what CUDA's libraries say in its place (``errors.is_out_of_memory``).
    """
    try:
        return work()
    except RuntimeError as error:
        if size == 1 or not is_out_of_memory(error):
            raise
    # after the handler, because the error keeps alive what the work had made
    torch.cuda.empty_cache()
    return None
