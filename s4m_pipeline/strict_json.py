"""JSON as Python's own module reads it, but for what that reads otherwise than written.

Of a key that stands twice in an object, Python takes the last value without a word; other tools
take the first. What is no JSON, is nested too deeply or holds a number of thousands of digits is an
error of one kind here, whose message follows a file's name.
"""

from __future__ import annotations

import json
from reprlib import Repr
from typing import Any

_SHORT = Repr()
_SHORT.maxlist = 3


class JsonError(ValueError):
    """A text is no JSON, or a key stands twice in it; the message is one line."""


class RepeatedKeyError(JsonError):
    """A key stands twice in one object."""


def read_json(content: str | bytes) -> Any:
    """Read a value from JSON, in UTF-8, UTF-16 or UTF-32, with a byte order mark or without.

    Raises:
        JsonError: It cannot be read as it is written.
    """
    try:
        return DECODER.decode(content if isinstance(content, str) else text_of(content))
    except (ValueError, RecursionError) as error:
        raise json_error(error) from error


def text_of(content: bytes) -> str:
    """The text of a file that holds JSON.

    Raises:
        JsonError: Its bytes are none of the encodings that JSON may have.
    """
    try:
        return content.decode(json.detect_encoding(content))
    except UnicodeDecodeError as error:
        raise json_error(error) from error


def json_error(error: ValueError | RecursionError) -> JsonError:
    """What `DECODER` or the decoding of bytes raised, as an error that can be told."""
    if isinstance(error, JsonError):
        return error
    if isinstance(error, UnicodeDecodeError):
        said = f"{error.reason} at byte {error.start}, as {error.encoding}"
    elif isinstance(error, RecursionError):
        said = "its lists and objects stand too deep in each other"
    elif isinstance(error, json.JSONDecodeError):
        said = str(error)
    else:  # Python says how to raise its limit
        said = "a number has thousands of digits"
    return JsonError(f"not a JSON file ({said})")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object of its keys and values (RepeatedKeyError where a key stands twice)."""
    found = dict(pairs)
    if len(found) == len(pairs):
        return found
    seen: set[str] = set()
    for key, _ in pairs:
        if key in seen:
            break
        seen.add(key)
    raise repeated(key, _SHORT.repr(dict(pairs[:4])))


def repeated(key: str, where: str) -> RepeatedKeyError:
    """The error of a key that stands twice in an object, which ``where`` names."""
    return RepeatedKeyError(f"{key[:40]!r} stands twice in {where}: keep one of them")


DECODER = json.JSONDecoder(object_pairs_hook=_object)
"""For those that read a text piece by piece; its errors are for `json_error`."""
