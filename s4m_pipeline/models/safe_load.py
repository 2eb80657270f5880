"""Checkpoints read with ``weights_only=True``: tensors and plain values, nothing that runs code.

MMEngine's checkpoints also hold ``HistoryBuffer`` objects (the log's running values). Their pickle
names numpy's array reconstruction and looks the buffer's statistics up with ``getattr``. Exactly
that is allowed here, by name, for the time of one read: under ``builtins.getattr`` stands a
function that answers for the four statistics of ``HistoryBuffer`` and refuses all else.
"""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.logging import HistoryBuffer
from safetensors import SafetensorError
from safetensors.torch import load_file

from s4m_pipeline.errors import UsageError

RESUMED = (
    "epoch",
    "iter",
    "seed",
    "cfg",
    "dataset_meta",
    "experiment_name",
    "mmengine_version",
    "time",
)
"""What ``meta`` of one of MMEngine's checkpoints may say to a training."""
STATISTICS = ("min", "max", "current", "mean")


def _statistic_of_history_buffer(owner: object, name: str) -> object:
    """Stand in for ``getattr`` in a checkpoint: the statistics of HistoryBuffer and nothing else.

    Raises:
        pickle.UnpicklingError: For any other attribute or owner.
    """
    if owner is HistoryBuffer and name in STATISTICS:
        return HistoryBuffer.__dict__[name]
    raise pickle.UnpicklingError(f"the file looks up {name!r} of {owner!r}, which is not allowed")


# torch compares the names in the file with those of the allowed functions.
_statistic_of_history_buffer.__module__ = "builtins"
_statistic_of_history_buffer.__name__ = "getattr"
_statistic_of_history_buffer.__qualname__ = "getattr"


def _allowed() -> list[Any]:
    """What a checkpoint of MMEngine may name beyond tensors and plain values."""
    reconstruct = np.zeros(1).__reduce__()[0]
    scalar = np.float64(0).__reduce__()[0]
    numbers = [np.dtype(kind).__class__ for kind in "?bBhHiIlLqQefd"]
    return [
        HistoryBuffer,
        _statistic_of_history_buffer,
        reconstruct,
        scalar,
        np.ndarray,
        np.dtype,
        bytes,
        *dict.fromkeys(numbers),
    ]


def load_checkpoint_file(path: Path | str, map_location: Any = "cpu") -> dict[str, Any]:
    """Read a checkpoint without running code from it.

    Args:
        path: The file.
        map_location: As of ``torch.load``.

    Returns:
        The dictionary in the file.

    Raises:
        UsageError: There is no such file, it cannot be read, it is not a checkpoint, it holds
            something other than a dictionary, or it asks for something that is not allowed.
    """
    path = Path(path)
    try:
        if not path.is_file():
            note = " (a folder, not a file)" if path.is_dir() else ""
            raise UsageError(f"no checkpoint here: {path}{note}")
        if path.suffix == ".safetensors":
            return _load_safetensors(path)
        with torch.serialization.safe_globals(_allowed()):
            content = torch.load(path, map_location=map_location, weights_only=True)
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror or error}") from error
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError) as error:
        raise UsageError(
            f"not a checkpoint that can be read safely: {path}\n{_reason(error)}"
        ) from error
    if not isinstance(content, dict):
        raise UsageError(f"not a checkpoint: {path} holds a {type(content).__name__}")
    return content


def _load_safetensors(path: Path) -> dict[str, Any]:
    """Read a safetensors file; half-precision tensors become float32."""
    try:
        tensors = load_file(path)
    except SafetensorError as error:
        raise UsageError(f"not a safetensors file: {path}\n{_reason(error)}") from error
    return {k: v.float() if v.is_floating_point() else v for k, v in tensors.items()}


def _reason(error: BaseException) -> str:
    """The first line of what the unpickler said, without torch's advice to read unsafely."""
    inner = error.__context__
    cause = inner if isinstance(inner, pickle.UnpicklingError) else error
    return (str(cause).strip().splitlines() or [type(cause).__name__])[0][:200]


def load_for_mmengine(filename: str, map_location: Any) -> dict[str, Any]:
    """Read a local file for MMEngine's ``CheckpointLoader``.

    Of ``meta`` only what a resumed training may read comes out: MMEngine's ``Runner.resume`` runs
    an entry ``config``, which older checkpoints have, as Python code.
    """
    content = load_checkpoint_file(Path(filename).expanduser(), map_location)
    meta = content.get("meta")
    if isinstance(meta, dict):
        content["meta"] = {name: meta[name] for name in RESUMED if name in meta}
    return content
