"""Digests: of settings, of files, of image sets."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from s4m_pipeline.artifacts.file_facts import FileFacts
from s4m_pipeline.errors import FormatVersionError, UsageError

FORMAT_VERSION = 2
"""Version of the artifacts' layout and tables. Part of every fingerprint."""

CONTENTS = "contents"
"""What `FileFacts` calls the digests of files."""
_FINGERPRINT = re.compile(r"[0-9a-f]{16}")


def is_fingerprint(name: str) -> bool:
    """Whether a name is that of an artifact's folder: sixteen hex digits."""
    return _FINGERPRINT.fullmatch(name) is not None


def format_fault(version: object) -> str:
    """What is wrong with a format version, in words; empty where this s4m reads it."""
    if str(version) == str(FORMAT_VERSION):
        return ""
    return f"format version {version}, this s4m reads {FORMAT_VERSION}"


def check_format_version(version: object, path: Path, folder: Path) -> None:
    """Refuse a file of another format version.

    Args:
        version: The version that it names.
        path: The file.
        folder: The artifact that it belongs to, ``WORK_DIR/STAGE/FINGERPRINT``.

    Raises:
        FormatVersionError: It has the artifact's folder. Rooms above know the command that makes
            the artifact again.
    """
    if fault := format_fault(version):
        raise FormatVersionError(f"{path}: {fault}.", folder)


def canonical_json(value: Any) -> str:
    """Write a JSON value in the one form from which digests are taken."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def digest_of(value: Any) -> str:
    """SHA-256 (hex) of the canonical JSON of ``value``."""
    # names of files may hold bytes that are not UTF-8, as lone surrogates
    return hashlib.sha256(canonical_json(value).encode("utf-8", "surrogatepass")).hexdigest()


def fingerprint(stage: str, settings: dict[str, Any], inputs: dict[str, str]) -> str:
    """Name a stage's result by what can change it.

    Args:
        stage: The stage's name.
        settings: The settings that can change the result; none that only change speed or place.
        inputs: Fingerprints of input artifacts or digests of input files, by name.

    Returns:
        The first 16 hex digits of SHA-256 over the canonical JSON of all of it.
    """
    return digest_of(
        {
            "stage": stage,
            "format_version": FORMAT_VERSION,
            "settings": settings,
            "inputs": inputs,
        }
    )[:16]


def file_digest(path: Path) -> str:
    """SHA-256 (hex) of a file's bytes.

    Raises:
        UsageError: The file is missing or cannot be read.
    """
    sha = hashlib.sha256()
    try:
        with path.open("rb") as stream:
            while block := stream.read(1 << 20):
                sha.update(block)
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror or error}") from error
    return sha.hexdigest()


def content_digest(path: Path, facts: FileFacts | None = None) -> str:
    """Digest of a file, or of all files below a folder (names and bytes).

    Args:
        path: The file or folder.
        facts: As for `image_set_digest`.

    Raises:
        UsageError: A file is missing or cannot be read.
    """
    facts = facts or FileFacts(None)
    if not path.is_dir():
        known = contents_of(path.parent, [path.name], facts)[0]
        return file_digest(path) if known is None else known  # which says what is wrong
    files = sorted(p for p in path.rglob("*") if p.is_file())
    names = [str(file.relative_to(path)) for file in files]
    contents = contents_of(path, names, facts)
    for file, content in zip(files, contents, strict=True):
        if content is None:
            file_digest(file)
    return digest_of(list(map(list, zip(names, contents, strict=True))))


def image_set_digest(root: Path, file_names: Iterable[str], facts: FileFacts | None = None) -> str:
    """Digest of an image set: names and contents, so that a touched file changes nothing.

    A missing file has no content. Whether that is an error is for the stage to decide.

    Args:
        root: The folder that the names are relative to.
        file_names: The images.
        facts: Remembers contents for a file's state. Without it all files are read.
    """
    names = sorted(file_names)
    contents = contents_of(root, names, facts or FileFacts(None))
    return digest_of(list(map(list, zip(names, contents, strict=True))))


def contents_of(root: Path, names: Sequence[str], facts: FileFacts) -> list[str | None]:
    """The digest of each file; None for one that is missing or cannot be read.

    Args:
        root: The folder that the names are relative to.
        names: The files.
        facts: Remembers contents for a file's state.
    """
    return facts.of(CONTENTS, root, names, _content_of)


def _content_of(path: Path) -> str | None:
    """A file's digest; None for what cannot be read."""
    try:
        return file_digest(path)
    except UsageError:
        return None
