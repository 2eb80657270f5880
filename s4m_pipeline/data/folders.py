"""Checks of the folders that a user names."""

from __future__ import annotations

import os
from collections.abc import Sequence
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


class ImagesFolder:
    """A folder of images, and the names that lead out of it.

    A list of images may come from anybody. Names with ``..``, absolute ones and links would have
    pictures read, and shown in pages that are passed on, from anywhere on this machine.

    Args:
        path: The folder. It may itself be a link.
    """

    def __init__(self, path: Path) -> None:
        self._path = os.path.abspath(path)
        self._real = os.path.realpath(path)
        self._parents: dict[str, bool] = {}

    def leaves(self, name: str) -> bool:
        """Whether a name, relative to the folder, leads out of it. It need not be there."""
        try:
            path = os.path.normpath(os.path.join(self._path, name))
            if not _is_below(path, self._path):
                return True
            if os.path.islink(path) or ".." in name.split("/"):
                return not _is_below(os.path.realpath(os.path.join(self._path, name)), self._real)
        except ValueError:  # a name that no file can have
            return False
        parent = os.path.dirname(path)
        if parent not in self._parents:
            real = os.path.realpath(parent)
            self._parents[parent] = real != self._real and not _is_below(real, self._real)
        return self._parents[parent]


def require_inside(names: Sequence[str], images: Path, source: Path, allow: str) -> None:
    """Refuse names that lead out of the folder of images.

    Args:
        names: The names.
        images: The folder.
        source: The file that lists them.
        allow: What to do for those who mean it.

    Raises:
        UsageError: Some do.
    """
    folder = ImagesFolder(images)
    leaving = [name for name in names if folder.leaves(name)]
    if leaving:
        raise UsageError(
            f"{source}: {len(leaving)} of {len(names)} file names lead out of {images} "
            f"(.., an absolute path or a link), the first is {leaving[0]}.\n"
            f"Move the images into the folder, or {allow} if this is meant."
        )


def _is_below(path: str, folder: str) -> bool:
    return path.startswith(os.path.join(folder, ""))
