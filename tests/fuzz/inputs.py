"""What fuzz tests feed to readers: good files with bytes changed, and JSON with values changed."""

from __future__ import annotations

import copy
from typing import Any

from hypothesis import strategies as st

ODD_NUMBERS = [0, -1, 1, 2, 255, 256, 2**31 - 1, 2**31, 2**63, -(2**63), 10**400, 0.5, -0.0, 1e308]
ODD_WORDS = ["", " ", "\0", "../x", "/", "~x", "é", "e\u0301", "\ud800", "\x1b[31m", "a\nb", "null"]

scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=8),
    st.sampled_from(ODD_NUMBERS),
    st.sampled_from(ODD_WORDS),
)
values = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=4), inner, max_size=4)
    ),
    max_leaves=6,
)
"""Any JSON value, with infinite numbers and numbers too large for a float among them."""


@st.composite
def damaged_bytes(draw: st.DrawFn, good: bytes) -> bytes:
    """A file's bytes with up to six changes: bits, bytes, spans cut, repeated or put in."""
    data = bytearray(good)
    for _ in range(draw(st.integers(0, 6))):
        at = draw(st.integers(0, len(data)))
        kind = draw(st.sampled_from(["bit", "byte", "cut", "end", "put", "repeat", "odd"]))
        span = draw(st.integers(1, 16))
        if kind == "bit" and at < len(data):
            data[at] ^= 1 << draw(st.integers(0, 7))
        elif kind == "byte" and at < len(data):
            data[at] = draw(st.integers(0, 255))
        elif kind == "cut":
            del data[at : at + span]
        elif kind == "end":
            del data[at:]
        elif kind == "put":
            data[at:at] = draw(st.binary(max_size=16))
        elif kind == "repeat":
            data[at:at] = data[at : at + span]
        elif kind == "odd":
            data[at : at + 4] = draw(st.sampled_from([b"\xff" * 4, b"\0" * 4, b"\xff\xff\xff\x7f"]))
    return bytes(data)


@st.composite
def changed_json(draw: st.DrawFn, good: Any) -> Any:
    """A JSON value with up to four of its parts replaced, removed, doubled or renamed."""
    value = copy.deepcopy(good)
    for _ in range(draw(st.integers(0, 4))):
        holder, key = draw(st.sampled_from(_places(value)))
        kind = draw(st.sampled_from(["replace", "replace", "remove", "double", "swap"]))
        if kind == "replace":
            holder[key] = draw(values)
        elif kind == "remove":
            del holder[key]
        elif kind == "double" and isinstance(holder, list):
            holder.append(copy.deepcopy(holder[key]))
        elif kind == "swap":
            other, place = draw(st.sampled_from(_places(value)))
            holder[key] = copy.deepcopy(other[place])
        if not _places(value):
            break
    return value


def _places(value: Any) -> list[tuple[Any, Any]]:
    """Every list and object inside a value with each of its keys."""
    keys = range(len(value)) if isinstance(value, list) else list(value)
    found: list[tuple[Any, Any]] = []
    for key in keys:
        found.append((value, key))
        if isinstance(value[key], (list, dict)):
            found += _places(value[key])
    return found
