"""Names of things that are imported when they are asked for.

What is heavy (torch, mmdet, sam2, numpy) is reached by such names only: a table or a class holds
the name, and the module is imported when its stage runs.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any


def load(name: str) -> Any:
    """Import what a name names.

    Args:
        name: ``package.module:thing``.

    Returns:
        The class, function or value.
    """
    module, _, thing = name.partition(":")
    return getattr(import_module(module), thing)
