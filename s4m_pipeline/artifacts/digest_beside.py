"""A digest in a file of its own beside another file, for those that no manifest lists yet."""

from __future__ import annotations

import zipfile
from pathlib import Path

from s4m_pipeline.artifacts.durable import sync_file, sync_folder
from s4m_pipeline.artifacts.fingerprint import file_digest
from s4m_pipeline.artifacts.plain_files import read_plain
from s4m_pipeline.artifacts.sealed import write_text
from s4m_pipeline.artifacts.torch_files import is_whole_zip
from s4m_pipeline.errors import UsageError

_UNREADABLE = (OSError, ValueError, IndexError, UsageError)
"""What reading a file and the digest beside it may raise."""


def digest_file(path: Path) -> Path:
    """Where the digest of a file stands."""
    return path.with_name(f"{path.name}.sha256")


def write_digest(path: Path) -> None:
    """Write down a file's digest, once the file itself is on the disk."""
    sync_file(path)
    sync_folder(path.parent)
    write_text(digest_file(path), f"{file_digest(path)}  {path.name}\n")


def has_its_digest(path: Path) -> bool:
    """Whether a file is there as it was when the digest beside it was written."""
    try:
        return _fits(path)
    except _UNREADABLE:
        return False


def is_whole_archive(path: Path) -> bool:
    """Whether a zip archive, such as torch's checkpoints, has the bytes that were written.

    One without a digest beside it, because it was stopped just then or is older, counts as whole if
    the checksums inside are right.
    """
    try:
        return is_whole_zip(path) and _fits(path)
    except FileNotFoundError:
        return path.is_file() and _checksums_fit(path)
    except _UNREADABLE:
        return False


def remove_with_digest(path: Path) -> None:
    """Remove a file, and the digest beside it."""
    path.unlink(missing_ok=True)
    digest_file(path).unlink(missing_ok=True)


def _fits(path: Path) -> bool:
    """Whether a file has the digest that stands beside it, which is read first."""
    expected = read_plain(digest_file(path)).decode().split()[0]
    return file_digest(path) == expected


def _checksums_fit(path: Path) -> bool:
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.testzip() is None
    except (OSError, zipfile.BadZipFile, NotImplementedError, ValueError, EOFError):
        return False
