"""The pickles of detectron2's model zoo (``.pkl``): dictionaries of numpy arrays, read safely.

A pickle may name any function and have it called. Here a few names are known, each stands for a
function or class of this module that only checks and keeps what it is given, and any other name
ends the reading. Not even numpy's own code is called before an array's kind and size are checked.
"""

from __future__ import annotations

import math
import pickle
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from s4m_pipeline.errors import UsageError

KINDS = frozenset({"f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "b1"})
"""The kinds of numbers that are read, as numpy writes them."""

_FAULTS = (
    pickle.UnpicklingError,
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


def read_pickled_arrays(path: Path) -> dict[str, Any]:
    """Read a pickled dictionary of arrays and plain values; no code of the file's choice runs.

    Args:
        path: The file, of any pickle protocol, written by Python 2 or 3.

    Returns:
        The dictionary, with torch tensors in place of arrays (dtypes kept, native byte order).

    Raises:
        UsageError: There is no such file, it is no pickle, or it names anything but arrays.
    """
    try:
        with path.open("rb") as file:
            content = _with_tensors(_Unpickler(file, encoding="latin1").load())
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror or error}") from error
    except _FAULTS as error:
        reason = (str(error).splitlines() or [""])[0][:200] or type(error).__name__
        raise UsageError(f"not a pickle of arrays alone: {path}\n{reason}") from error
    if not isinstance(content, dict):
        raise UsageError(f"not a checkpoint: {path} holds a {type(content).__name__}")
    return content


class _Kind:
    """Stands for ``numpy.dtype``."""

    def __init__(self, text: object, *_flags: object) -> None:
        if text not in KINDS:
            raise pickle.UnpicklingError(f"arrays of kind {text!r} are not read")
        self.text = str(text)
        self.order = "="

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        if state[1] not in ("<", ">", "|", "="):
            raise pickle.UnpicklingError(f"no byte order: {state[1]!r}")
        self.order = "=" if state[1] == "|" else state[1]

    def array(self, data: bytes | str, shape: tuple[int, ...], fortran: bool) -> np.ndarray:
        """Check that the bytes fill the shape, and make an array of them."""
        raw = data.encode("latin1") if isinstance(data, str) else bytes(data)
        kind = np.dtype(self.order + self.text)
        if any(type(n) is not int or n < 0 for n in shape) or len(shape) > 32:
            raise pickle.UnpicklingError(f"no shape of an array: {shape!r}")
        if math.prod(shape) * kind.itemsize != len(raw):
            raise pickle.UnpicklingError("an array's bytes do not fill its shape")
        values = np.frombuffer(raw, kind).astype(kind.newbyteorder("="))
        return values.reshape(shape, order="F" if fortran else "C")


class _Array:
    """Stands for ``numpy.ndarray``: empty until its state comes."""

    values: np.ndarray | None = None

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _version, shape, kind, fortran, data = state
        self.values = _checked(kind).array(data, shape, bool(fortran))


def _checked(kind: object) -> _Kind:
    if not isinstance(kind, _Kind):
        raise pickle.UnpicklingError("an array without a kind")
    return kind


def _reconstruct(owner: object, _shape: object, _kind: object) -> _Array:
    """Stands for numpy's function of that name."""
    if owner is not _Array:
        raise pickle.UnpicklingError("only plain arrays are read")
    return _Array()


def _from_buffer(data: bytes, kind: object, shape: tuple[int, ...], order: str) -> _Array:
    """Stands for numpy's ``_frombuffer``, of pickle protocol 5."""
    array = _Array()
    array.values = _checked(kind).array(data, shape, order == "F")
    return array


def _scalar(kind: object, data: bytes) -> Any:
    """Stands for numpy's ``scalar``; a plain number comes out."""
    return _checked(kind).array(data, (), False).item()


def _encode(text: str, encoding: str) -> bytes:
    """Stands for ``_codecs.encode``, by which old protocols write bytes."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"bytes in the encoding {encoding!r} are not read")
    return text.encode("latin1")


def _no_bytes() -> bytes:
    """Stands for ``bytes``, which old protocols call for an empty string."""
    return b""


_KNOWN: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): OrderedDict,
    ("_codecs", "encode"): _encode,
    ("__builtin__", "bytes"): _no_bytes,
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _Kind,
    ("multiarray", "_reconstruct"): _reconstruct,
    ("multiarray", "scalar"): _scalar,
    ("numeric", "_frombuffer"): _from_buffer,
}


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


def _with_tensors(value: Any) -> Any:
    """The same content with tensors for arrays."""
    if isinstance(value, _Array):
        return _tensor(value)
    if isinstance(value, dict):
        return {key: _with_tensors(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_with_tensors(inner) for inner in value)
    return value


def _tensor(array: _Array) -> Tensor:
    if array.values is None:
        raise pickle.UnpicklingError("an array without content")
    return torch.from_numpy(np.array(array.values, order="C"))
