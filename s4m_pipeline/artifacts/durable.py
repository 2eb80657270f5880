"""Files that outlast a power cut: their bytes are on the disk before their names are."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from s4m_pipeline.errors import ArtifactError

LOST = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EIO})
"""What a system says where it could not write something down."""


def sync_file(path: Path) -> None:
    """Wait until a file's bytes are on the disk; an error names the file."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        error.filename = os.fspath(path)
        raise
    finally:
        os.close(descriptor)


def sync_folder(folder: Path) -> None:
    """Wait until the names in a folder are on the disk, where the file system can say so."""
    try:
        sync_file(folder)
    except OSError as error:  # some network file systems keep no folders of their own
        if error.errno in LOST:
            raise


def make_folder(folder: Path) -> None:
    """Make a folder and those above it, their names on the disk; nothing where it is there."""
    if folder.is_dir():
        return
    make_folder(folder.parent)
    folder.mkdir(exist_ok=True)
    sync_folder(folder.parent)


def sync_files(folder: Path, paths: Iterable[str]) -> None:
    """Wait until files inside a folder are on the disk, and then the names that lead to them."""
    folders = {folder}
    for path in paths:
        sync_file(folder / path)
        folders.update(folder / above for above in PurePosixPath(path).parents)
    for inner in sorted(folders, reverse=True):
        sync_folder(inner)


def put_in_place(partial: Path, path: Path) -> None:
    """Give a file that was written under another name its own: bytes first, then the name.

    Raises:
        ArtifactError: A folder has that name.
    """
    sync_file(partial)
    refuse_folder(path)
    partial.replace(path)
    sync_folder(path.parent)


def refuse_folder(path: Path) -> None:
    """Refuse a folder where a file is to be written.

    Raises:
        ArtifactError: There is one.
    """
    if path.is_dir():
        raise ArtifactError(
            f"{path}: is a folder, where a file belongs.\nRemove it, then run it again."
        )
