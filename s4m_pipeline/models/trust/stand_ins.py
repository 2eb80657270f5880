"""What stands for numpy's and MMEngine's classes while a pickle is read: it checks and keeps.

Not even numpy's own code is called with what a file says: a dtype's flags and an array's bytes, as
numpy takes them from a pickle, can make numpy follow addresses of the file's choice.
"""

from __future__ import annotations

import math
import pickle
from collections.abc import Callable
from types import FunctionType
from typing import Any

import numpy as np
from mmengine.logging import HistoryBuffer

KINDS = frozenset({"f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "b1"})
"""The kinds of numbers that are read, as numpy writes them."""
STATISTICS = ("min", "max", "current", "mean")


class Kind:
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


class Array:
    """Stands for ``numpy.ndarray``: empty until its state comes."""

    values: np.ndarray | None = None

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _version, shape, kind, fortran, data = state
        self.values = _checked(kind).array(data, shape, bool(fortran))

    def whole(self) -> np.ndarray:
        """Its values.

        Raises:
            pickle.UnpicklingError: No state came.
        """
        if self.values is None:
            raise pickle.UnpicklingError("an array without content")
        return self.values


class History:
    """Stands for MMEngine's ``HistoryBuffer``, of which it keeps the numbers alone.

    What a buffer's pickle says of its statistics would go into those of all buffers.
    """

    state: dict[str, Any] | None = None

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.state = state

    def buffer(self) -> HistoryBuffer:
        """The buffer.

        Raises:
            pickle.UnpicklingError: Its state is not that of a buffer.
        """
        state = self.state if isinstance(self.state, dict) else {}
        most = state.get("max_length")
        parts = [state.get(name) for name in ("_log_history", "_count_history")]
        arrays = [part.whole() for part in parts if isinstance(part, Array)]
        if type(most) is not int or most < 1 or len(arrays) != 2 or arrays[0].ndim != 1:
            raise pickle.UnpicklingError("a log's history without its numbers")
        if arrays[0].shape != arrays[1].shape:
            raise pickle.UnpicklingError("a log's history with other numbers than counts")
        buffer = HistoryBuffer(max_length=most)
        buffer._log_history, buffer._count_history = arrays
        return buffer


def _checked(kind: object) -> Kind:
    if not isinstance(kind, Kind):
        raise pickle.UnpicklingError("an array without a kind")
    return kind


def reconstruct(owner: object, _shape: object, _kind: object) -> Array:
    """Stands for numpy's function of that name."""
    if not (isinstance(owner, type) and issubclass(owner, Array)):
        raise pickle.UnpicklingError("only plain arrays are read")
    return owner()


def from_buffer(data: bytes, kind: object, shape: tuple[int, ...], order: str) -> Array:
    """Stands for numpy's ``_frombuffer``, of pickle protocol 5."""
    array = Array()
    array.values = _checked(kind).array(data, shape, order == "F")
    return array


def scalar(kind: object, data: bytes) -> Any:
    """Stands for numpy's ``scalar``; a plain number comes out."""
    return _checked(kind).array(data, (), False).item()


def encode(text: str, encoding: str) -> bytes:
    """Stands for ``_codecs.encode``, by which old protocols write bytes."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"bytes in the encoding {encoding!r} are not read")
    return text.encode("latin1")


def no_bytes() -> bytes:
    """Stands for ``bytes``, which old protocols call for an empty string."""
    return b""


def statistic(owner: object, name: str) -> str:
    """Stands for ``getattr`` in a checkpoint: the statistics of a history and nothing else.

    Raises:
        pickle.UnpicklingError: For any other attribute or owner.
    """
    if isinstance(owner, type) and issubclass(owner, History) and name in STATISTICS:
        return name
    raise pickle.UnpicklingError(f"the file looks up {name!r} of {owner!r}, which is not allowed")


def named(thing: Any, module: str, name: str) -> Any:
    """A copy of a stand-in's function or class that bears the name of what it stands for."""
    if isinstance(thing, FunctionType):
        copy: Any = FunctionType(thing.__code__, thing.__globals__, name)
        copy.__module__, copy.__qualname__ = module, name
        return copy
    return type(name, (thing,), {"__module__": module, "__qualname__": name})


def replaced(content: Any, change: Callable[[Any], Any]) -> Any:
    """Change all values in dictionaries, lists and tuples, each once however often it stands.

    Args:
        content: What was read; dictionaries and lists are changed in place.
        change: Gives what a value becomes; it is not asked about dictionaries, lists and tuples.
    """
    seen: dict[int, tuple[Any, Any]] = {}

    def walk(value: Any) -> Any:
        if id(value) in seen:
            return seen[id(value)][1]
        seen[id(value)] = (value, value)  # it may hold itself
        result = value
        if isinstance(value, dict):
            for key in list(value):
                value[key] = walk(value[key])
        elif isinstance(value, list):
            value[:] = [walk(inner) for inner in value]
        elif type(value) is tuple:
            result = tuple(walk(inner) for inner in value)
        else:
            result = change(value)
        seen[id(value)] = (value, result)
        return result

    return walk(content)
