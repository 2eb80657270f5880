"""A model that a checkpoint describes is built no larger than the weights that come with it.

A number in a checkpoint is a few bytes, and the layers or the table that it asks for may be
thousands of gigabytes. So what is about to be made is counted while the model is built: bytes
before they are taken, and layers.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_module_registration_hook
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter, tree_map_only

from s4m_pipeline.errors import ArtifactError

BYTES_PER_BYTE = 3
"""What a build may take in all for a byte of weights; the models that ship take 1."""
ALLOWANCE = 1 << 27
"""Bytes that any build may take: tables of positions, and the like."""
LAYERS_PER_TENSOR = 16
LAYERS = 10_000


@contextmanager
def held_to(weights: Mapping[str, Tensor], path: Path) -> Iterator[None]:
    """Hold what is built in this thread to the size of some weights.

    Args:
        weights: The weights.
        path: Their file, for the message.

    Raises:
        ArtifactError: The model asks for more.
    """
    error = ArtifactError(
        f"{path} is not to be trusted: its model asks for far more than the weights in it"
    )
    size = sum(value.numel() * max(4, value.element_size()) for value in weights.values())
    layers = iter(range(LAYERS_PER_TENSOR * len(weights) + LAYERS))

    def count(_module: nn.Module, _name: str, _inner: nn.Module | None) -> None:
        if next(layers, None) is None:
            raise error

    handle = register_module_module_registration_hook(count)
    try:
        with _Budget(BYTES_PER_BYTE * size + ALLOWANCE, error):
            yield
    finally:
        handle.remove()


class _Budget(TorchDispatchMode):
    """Raises an error before an operation that would take more bytes than are left."""

    def __init__(self, left: int, error: Exception) -> None:
        super().__init__()
        self._left, self._error = left, error

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> object:
        kwargs = kwargs or {}
        self._left -= _bytes_of(func, args, kwargs)
        if self._left < 0:
            raise self._error
        return func(*args, **kwargs)


def _bytes_of(func: Any, args: Any, kwargs: dict[str, Any]) -> int:
    """Bytes that an operation's results will take, found without making them."""
    if all(result.alias_info is not None for result in func._schema.returns):
        return 0  # a view, or a change in place
    if "device" in kwargs or not any(isinstance(value, Tensor) for value in tree_iter(args)):
        kwargs = {**kwargs, "device": "meta"}
    on_meta = tree_map_only(Tensor, _described, (args, kwargs))
    try:
        made = func(*on_meta[0], **on_meta[1])
    except (RuntimeError, NotImplementedError, TypeError, ValueError):
        return 0  # what depends on values is as large as its operands at most
    return sum(
        value.numel() * value.element_size()
        for value in tree_iter(made)
        if isinstance(value, Tensor)
    )


def _described(value: Tensor) -> Tensor:
    return torch.empty_strided(value.shape, value.stride(), dtype=value.dtype, device="meta")
