"""What would make the host wait for a GPU, noted without one."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode


class Waits(TorchDispatchMode):
    """Notes operations that make the host wait for a GPU: copies and results of unknown size."""

    NAMES = (
        "_local_scalar_dense",
        "nonzero",
        "masked_select",
        "unique",
        "_unique2",
        "_linalg_check_errors",
    )

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        name = func.overloadpacket.__name__
        if name in self.NAMES:
            self.seen.append(name)
        if name.startswith("index") and len(args) > 1 and isinstance(args[1], (list, tuple)):
            given = [i for i in args[1] if isinstance(i, Tensor)]
            self.seen += [name for index in given if index.dtype in (torch.bool, torch.uint8)]
            self.seen += ["index from the host" for i in given if i.device != args[0].device]
        result = func(*args, **(kwargs or {}))
        if (
            name in ("_to_copy", "copy_")
            and result.device != args[-1 if name == "copy_" else 0].device
        ):
            self.seen.append(name)
        return result


def note_calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Collect the calls that bring a tensor to the host or make one of the host's values."""
    calls: list[str] = []

    def note(owner: Any, name: str) -> None:
        real = getattr(owner, name)

        def noted(*args: Any, **more: Any) -> Any:
            calls.append(name)
            return real(*args, **more)

        monkeypatch.setattr(owner, name, noted)

    for name in (
        "cpu",
        "numpy",
        "item",
        "tolist",
        "new_tensor",
        "__bool__",
        "__int__",
        "__float__",
    ):
        note(Tensor, name)
    note(torch, "tensor")
    return calls
