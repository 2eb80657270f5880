"""Imports by name, made when they are needed.

What is heavy (torch, mmdet, sam2, NumPy) is reached this way: a table or a class holds the name,
and the module is imported when its stage runs.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any


def load(name: str) -> Any:
    """Import a module and take one thing from it.

    Args:
        name: ``package.module:thing``.

    Returns:
        The class, function or value.
    """
    module, _, thing = name.partition(":")
    return getattr(import_module(module), thing)
