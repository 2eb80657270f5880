"""Files that outlast a power cut: their bytes are on the disk before their names are."""

from __future__ import annotations

import os
from pathlib import Path


def sync_file(path: Path) -> None:
    """Wait until a file's bytes are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_folder(folder: Path) -> None:
    """Wait until the names in a folder are on the disk, where the file system can say so."""
    try:
        sync_file(folder)
    except OSError:  # some network file systems keep no folders of their own
        return


def put_in_place(partial: Path, path: Path) -> None:
    """Give a file that was written under another name its own: bytes first, then the name."""
    sync_file(partial)
    partial.replace(path)
    sync_folder(path.parent)
