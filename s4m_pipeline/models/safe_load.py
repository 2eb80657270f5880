"""Checkpoints read with ``weights_only=True``: tensors and plain values, nothing that runs code.

What a checkpoint may name is a list, and a pass over its pickle holds it to that and to the size of
its file before anything is loaded. MMEngine's checkpoints also hold ``HistoryBuffer`` objects (the
log's running values) and numpy's arrays and numbers. For these stand, for the time of one read,
functions and classes of ours that only check and keep: torch would let numpy take a dtype's flags
from the file, and follow addresses of the file's choice.
"""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from s4m_pipeline.artifacts.pickle_bounds import PickleRefusedError
from s4m_pipeline.artifacts.torch_files import FAULTS, TENSOR_NAMES, check_torch_file
from s4m_pipeline.artifacts.weight_files import what_it_is, written_by
from s4m_pipeline.errors import UsageError
from s4m_pipeline.models.trust import stand_ins
from s4m_pipeline.models.trust.resumed import as_resumed
from s4m_pipeline.models.trust.stand_ins import Array, History, named, replaced

RESUME = "s4m-resume:"
"""What stands before the path of a checkpoint that a training goes on from, for MMEngine."""
_BUILTINS = ("builtins ", "__builtin__ ")
"""What Python 3 and Python 2 call the module."""
_STAND_INS: dict[str, Any] = {
    "mmengine.logging.history_buffer HistoryBuffer": History,
    "builtins getattr": stand_ins.statistic,
    "builtins bytes": stand_ins.no_bytes,
    "numpy ndarray": Array,
    "numpy dtype": stand_ins.Kind,
    "numpy.core.multiarray _reconstruct": stand_ins.reconstruct,
    "numpy._core.multiarray _reconstruct": stand_ins.reconstruct,
    "numpy.core.multiarray scalar": stand_ins.scalar,
    "numpy._core.multiarray scalar": stand_ins.scalar,
}
"""What a checkpoint of MMEngine may name beyond tensors, and what stands for it."""
_NAMES = TENSOR_NAMES | {
    name.replace("builtins ", builtins) for name in _STAND_INS for builtins in _BUILTINS
}


def _allowed() -> list[Any]:
    """The stand-ins under the names that torch compares with those in a file."""
    return [named(thing, *name.split(" ")) for name, thing in _STAND_INS.items()]


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
        check_torch_file(path, _NAMES)
        with torch.serialization.safe_globals(_allowed()):
            content = torch.load(path, map_location=map_location, weights_only=True)
        content = replaced(content, _Finished(path.stat().st_size))
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror or error}") from error
    except FAULTS as error:
        raise UsageError(
            f"not a checkpoint that can be read safely: {path}\n{reason_of(error, path)}"
        ) from error
    if not isinstance(content, dict):
        raise UsageError(f"not a checkpoint: {path} holds a {type(content).__name__}")
    return content


class _Finished:
    """Puts the real things where stand-ins are, and refuses tensors that no file of a size holds.

    Args:
        size: Bytes of the file.
    """

    def __init__(self, size: int) -> None:
        self._size = size

    def __call__(self, value: Any) -> Any:
        if isinstance(value, Array):
            return value.whole()
        if isinstance(value, History):
            return value.buffer()
        if isinstance(value, Tensor) and (
            value.layout != torch.strided or value.numel() > self._size
        ):
            raise PickleRefusedError(
                f"it holds a tensor of {value.numel()} values, beyond its size"
            )
        return value


def _load_safetensors(path: Path) -> dict[str, Any]:
    """Read a safetensors file; half-precision tensors become float32."""
    try:
        tensors = load_file(path)
    except SafetensorError as error:
        raise UsageError(f"not a safetensors file: {path}\n{reason_of(error, path)}") from error
    return {k: v.float() if v.is_floating_point() else v for k, v in tensors.items()}


def reason_of(error: BaseException, path: Path) -> str:
    """Why a file could not be read: what it is, where that is known, else what its reader said.

    The reader's first line alone is taken, without torch's advice to read unsafely.
    """
    inner = error.__context__
    cause = inner if isinstance(inner, pickle.UnpicklingError) else error
    said = (str(cause).strip().splitlines() or [type(cause).__name__])[0][:200]
    named_thing = error.name if isinstance(error, PickleRefusedError) else None
    if named_thing is not None:
        tool = written_by(named_thing)
        return said if tool is None else f"{said};\n{tool}"
    return what_it_is(path) or said


def load_for_mmengine(filename: str, map_location: Any) -> dict[str, Any]:
    """Read a local file for MMEngine's ``CheckpointLoader``; of ``meta`` nothing comes out."""
    content = load_checkpoint_file(Path(filename).expanduser(), map_location)
    content.pop("meta", None)
    return content


def load_to_resume(filename: str, map_location: Any) -> dict[str, Any]:
    """Read a checkpoint that a training goes on from, for MMEngine: `RESUME` and its path."""
    path = Path(filename.removeprefix(RESUME))
    return as_resumed(load_checkpoint_file(path, map_location), path)
