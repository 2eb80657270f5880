"""A pass over a pickle before it is loaded: what it names, and that it asks for no more memory.

A pickle is a program for a small machine. A few bytes of it can ask for an index of a thousand
million in the machine's memo, announce a text that is longer than the file, or have one long text
copied again and again. The pass follows the machine with sizes in place of values, and refuses what
a file of this length cannot need. Nothing is made or called.
"""

from __future__ import annotations

import pickletools
from collections.abc import Collection
from io import BytesIO
from mmap import mmap
from typing import IO, Any, cast

COPIES = 4
"""How often, on average, each byte of an honest file may be copied by what the file calls."""
ALLOWANCE = 1 << 20
"""Bytes that any file may have copied."""
POINTER = 8
LONGEST_NAME = 200

_PUTS = ("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE")
_GETS = ("GET", "BINGET", "LONG_BINGET")
_FILLING = ("APPEND", "APPENDS", "SETITEM", "SETITEMS", "ADDITEMS", "BUILD")
_CALLS = ("REDUCE", "NEWOBJ", "NEWOBJ_EX", "OBJ", "INST", "BUILD")
_NAMES = ("GLOBAL", "INST")


class NoPickleError(Exception):
    """Not even the first instruction is one of a pickle's."""


class PickleRefusedError(Exception):
    """A pickle that is broken, or that asks for what it may not have; the message says for what.

    Attributes:
        name: What it names and may not, as ``module.name``, if that is the reason.
    """

    def __init__(self, message: str, name: str | None = None) -> None:
        super().__init__(message)
        self.name = name


def check_pickle(source: BytesIO | mmap, size: int, names: Collection[str] | None) -> None:
    """Follow one pickle from where ``source`` stands to its end, which ``source`` then stands at.

    Args:
        source: The file in memory; a plain file's reads would allocate what they are asked for.
        size: Bytes of the whole file.
        names: What it may name, each as ``module name``; None leaves that to its reader.

    Raises:
        NoPickleError: It does not begin like a pickle.
        PickleRefusedError: It is broken, or asks for what it may not have.
    """
    machine = _Machine(size, names)
    try:
        for opcode, argument, position in pickletools.genops(cast(IO[bytes], source)):
            machine.follow(opcode, argument, position or 0)
    except PickleRefusedError:
        raise
    except (ValueError, IndexError, KeyError, OverflowError) as error:
        reason = (str(error).splitlines() or [""])[0][:200]
        if not machine.steps:
            raise NoPickleError(reason) from error
        raise PickleRefusedError(f"it is cut short or broken ({reason})") from error


class _Value:
    """What stands for a value: its own size in bytes, the parts of a tuple, and a short text."""

    __slots__ = ("parts", "size", "text")

    def __init__(self, size: int = 0, parts: Any = (), text: str = "") -> None:
        self.size, self.parts, self.text = size, parts, text


_MARK = _Value()


class _Machine:
    """The stack and the memo of a pickle, with sizes for values."""

    def __init__(self, size: int, names: Collection[str] | None) -> None:
        self.steps = 0
        self._size, self._names = size, names
        self._stack: list[_Value] = []
        self._memo: dict[int, _Value] = {}
        self._copied = 0

    def follow(self, opcode: Any, argument: Any, position: int) -> None:
        """Take one step."""
        kind = opcode.name
        if kind in _PUTS:
            self._put(len(self._memo) if kind == "MEMOIZE" else argument)
        elif kind in _GETS:
            self._stack.append(self._memo[argument])
        elif kind == "MARK":
            self._stack.append(_MARK)
        elif kind == "DUP":
            self._stack.append(self._stack[-1])
        elif kind == "FRAME":
            if argument > self._size - position:
                raise PickleRefusedError(f"it announces {argument} bytes and has fewer")
        else:
            self._compute(opcode, argument)
        self.steps += 1

    def _put(self, index: int) -> None:
        if not 0 <= index <= self.steps:
            raise PickleRefusedError(
                f"it asks for place {index} of a memo after {self.steps} steps"
            )
        self._memo[index] = self._stack[-1]

    def _compute(self, opcode: Any, argument: Any) -> None:
        """Pop what an instruction takes and push what it leaves."""
        kind = opcode.name
        if kind in _NAMES:
            self._name(argument)
        taken = self._taken(opcode.stack_before)
        if kind == "STACK_GLOBAL":
            self._name(" ".join(value.text for value in taken))
        if kind in _CALLS:
            self._call(taken)
        if kind in _FILLING:
            taken[0].size += POINTER * (len(taken) - 1)
            self._stack.append(taken[0])
        elif opcode.stack_after:
            self._stack.append(_made(kind, argument, taken))

    def _taken(self, before: list[Any]) -> list[_Value]:
        """Pop an instruction's operands: so many, or those above the last mark as well."""
        if pickletools.markobject not in before:
            return [self._stack.pop() for _ in before][::-1]
        above: list[_Value] = []
        while (value := self._stack.pop()) is not _MARK:
            above.append(value)
        below = [self._stack.pop() for _ in range(before.index(pickletools.markobject))]
        return below[::-1] + above[::-1]

    def _name(self, name: str) -> None:
        if self._names is not None and name not in self._names:
            shown = name.replace(" ", ".")[:LONGEST_NAME]
            raise PickleRefusedError(f"it names {ascii(shown)[1:-1]}, which is not allowed", shown)

    def _call(self, taken: list[_Value]) -> None:
        """Count what a call may copy: its arguments, and what stands in tuples of them."""
        for value in taken:
            self._copied += value.size + sum(part.size for part in value.parts)
        if self._copied > COPIES * self._size + ALLOWANCE:
            raise PickleRefusedError("it has its content copied beyond the size of the file")


def _made(kind: str, argument: Any, taken: list[_Value]) -> _Value:
    """What an instruction leaves on the stack."""
    if isinstance(argument, (str, bytes, bytearray)):
        short = isinstance(argument, str) and len(argument) <= LONGEST_NAME
        return _Value(len(argument), text=str(argument) if short else "")
    if kind.startswith("TUPLE"):
        return _Value(POINTER * len(taken), parts=taken)
    return _Value(POINTER * len(taken))
