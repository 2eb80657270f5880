"""JSON files that carry a digest of themselves, so that a changed byte in them is noticed.

The digest is the last value of the file. It is taken of the file's text with zeros in its place.
Files that s4m wrote before it sealed them have none, and none is asked of them.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from s4m_pipeline.artifacts.durable import make_folder, put_in_place
from s4m_pipeline.artifacts.plain_files import MOST_BYTES, clear_the_way, read_plain
from s4m_pipeline.strict_json import read_json

SEAL = "sha256"
"""The key of the digest."""
CACHE_BYTES = 1 << 34
"""At most, of what can be found again: it has a line for each picture of a set."""
_OPEN = "0" * 64


def write_sealed(path: Path, value: Mapping[str, Any]) -> None:
    """Write a mapping as JSON with a digest of itself, by rename and durably."""
    write_text(path, _sealed(_text({**value, SEAL: _OPEN})))


def write_cache(path: Path, value: Mapping[str, Any]) -> None:
    """Write what can be found again as JSON with a digest of itself, by rename.

    Nothing is waited for, and nothing is written where the folder is read-only.
    """
    text = _sealed(json.dumps({**value, SEAL: _OPEN}))
    partial = path.with_suffix(f".{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        clear_the_way(partial).write_text(text)
        partial.replace(path)
    except OSError:
        return


def read_cache(path: Path) -> dict[str, Any]:
    """What `write_cache` wrote; nothing where a byte of it changed, or where it has no digest."""
    try:
        value, fault = read_sealed(path, (), CACHE_BYTES)
    except (OSError, ValueError, RecursionError):
        return {}
    return {} if fault else value


def write_json(path: Path, value: Any) -> None:
    """Write JSON by rename, so that a reader sees the old file or the new one, never half."""
    write_text(path, _text(value))


def write_text(path: Path, text: str) -> None:
    """Write a text by rename and durably; its folder is made where it is missing."""
    make_folder(path.parent)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    clear_the_way(partial).write_bytes(_bytes(text))
    put_in_place(partial, path)


def read_sealed(
    path: Path, known: Collection[str], most: int = MOST_BYTES
) -> tuple[dict[str, Any], str]:
    """Read a mapping from JSON, and say whether it is as it was written.

    Args:
        path: The file.
        known: The keys that it may have. One that lost its digest's key to a changed byte has
            another one.
        most: Bytes that it may have.

    Returns:
        The mapping without its digest, and what is wrong with it; an empty text for nothing.

    Raises:
        OSError: It cannot be read.
        ValueError: It is no JSON, or no mapping.
    """
    text = read_plain(path, most).decode()
    value = read_json(text)
    if not isinstance(value, dict):
        raise ValueError(f"a {type(value).__name__} where a mapping should be")
    digest = value.pop(SEAL, None)
    if digest is None:
        unknown = sorted(value.keys() - set(known))
        return value, f"unknown key {unknown[0]!r}" if unknown else ""
    before, found, after = text.rpartition(str(digest))
    whole = found and len(found) == len(_OPEN) and _digest(before + _OPEN + after) == digest
    return value, "" if whole else "its own SHA-256 is not the one that it names"


def _sealed(text: str) -> str:
    """A text with its digest where the zeros are."""
    before, _, after = text.rpartition(_OPEN)
    return before + _digest(text) + after


def _text(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"


def _bytes(text: str) -> bytes:
    """UTF-8; a lone surrogate, of a name that is not UTF-8, becomes what JSON writes for it."""
    return text.encode("utf-8", "backslashreplace")


def _digest(text: str) -> str:
    return hashlib.sha256(_bytes(text)).hexdigest()
