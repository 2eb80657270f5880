"""Checks of the folders that a user names."""

from __future__ import annotations

from pathlib import Path

from s4m_pipeline.errors import UsageError


def require_folder(path: Path) -> None:
    """Refuse a folder that is missing or is a file.

    Raises:
        UsageError: The path is not a folder; the message says what it is.
    """
    if path.is_dir():
        return
    raise UsageError(f"{path}: {'is a file, not a folder' if path.exists() else 'no such folder'}")
