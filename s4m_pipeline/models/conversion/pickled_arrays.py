"""The pickles of detectron2's model zoo (``.pkl``): dictionaries of numpy arrays, read safely.

A pickle may name any function and have it called. Here a few names are known, each stands for a
function or class of ours that only checks and keeps what it is given
(:mod:`s4m_pipeline.models.trust.stand_ins`), and any other name ends the reading. What the file
asks for in memory is bounded before anything is read.
"""

from __future__ import annotations

import mmap
import pickle
from collections import OrderedDict
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch

from s4m_pipeline.artifacts.pickle_bounds import NoPickleError, PickleRefusedError, check_pickle
from s4m_pipeline.artifacts.weight_files import what_it_is
from s4m_pipeline.errors import UsageError
from s4m_pipeline.models.trust import stand_ins
from s4m_pipeline.models.trust.stand_ins import KINDS, Array, replaced

__all__ = ["KINDS", "read_pickled_arrays"]

_FAULTS = (
    pickle.UnpicklingError,
    NoPickleError,
    PickleRefusedError,
    ArithmeticError,
    AttributeError,
    EOFError,
    ImportError,
    LookupError,
    MemoryError,
    RecursionError,
    TypeError,
    ValueError,
)
_KNOWN: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): OrderedDict,
    ("_codecs", "encode"): stand_ins.encode,
    ("__builtin__", "bytes"): stand_ins.no_bytes,
    ("numpy", "ndarray"): Array,
    ("numpy", "dtype"): stand_ins.Kind,
    ("multiarray", "_reconstruct"): stand_ins.reconstruct,
    ("multiarray", "scalar"): stand_ins.scalar,
    ("numeric", "_frombuffer"): stand_ins.from_buffer,
}


def read_pickled_arrays(path: Path) -> dict[str, Any]:
    """Read a pickled dictionary of arrays and plain values; no code of the file's choice runs.

    Args:
        path: The file, of any pickle protocol, written by Python 2 or 3.

    Returns:
        The dictionary, with torch tensors in place of arrays (dtypes kept, native byte order).

    Raises:
        UsageError: There is no such file, it is no pickle, it names anything but arrays, or it asks
            for more memory than its size accounts for.
    """
    try:
        with path.open("rb") as file:
            _check_bounds(file, path.stat().st_size)
            content = replaced(_Unpickler(file, encoding="latin1").load(), _tensor_for_array)
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror or error}") from error
    except _FAULTS as error:
        unread = isinstance(error, (NoPickleError, PickleRefusedError))
        reason = what_it_is(path) if unread else None
        reason = reason or (str(error).splitlines() or [""])[0][:200] or type(error).__name__
        raise UsageError(f"not a pickle of arrays alone: {path}\n{reason}") from error
    if not isinstance(content, dict):
        raise UsageError(f"not a checkpoint: {path} holds a {type(content).__name__}")
    return content


def _check_bounds(file: BinaryIO, size: int) -> None:
    if size == 0:
        raise NoPickleError("it is empty")
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as whole:
        check_pickle(whole, size, names=None)


class _Unpickler(pickle.Unpickler):
    """An unpickler that knows the names of this module and no other."""

    def find_class(self, module: str, name: str) -> Any:
        """Look up one of the known names.

        Raises:
            pickle.UnpicklingError: For any other name.
        """
        for core in ("numpy.core.", "numpy._core."):  # before and since numpy 2
            module = module.removeprefix(core)
        try:
            return _KNOWN[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f"it names {module}.{name}, which is no array") from None


def _tensor_for_array(value: Any) -> Any:
    if isinstance(value, Array):
        return torch.from_numpy(np.array(value.whole(), order="C"))
    return value
