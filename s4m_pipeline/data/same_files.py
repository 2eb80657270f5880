"""Files that two lists of images have in common, by their resolved paths. Light: no file is opened.

A picture can be in two lists under two names: by a link, or from another folder.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path


def resolved_names(folder: Path, names: Iterable[str]) -> dict[str, str]:
    """The resolved path of each name of a folder; a file need not exist.

    Args:
        folder: The folder of images.
        names: Names relative to it.
    """
    folders: dict[str, str] = {}
    found = {}
    for name in names:
        parent, leaf = os.path.split(os.path.join(folder, name))
        if parent not in folders:
            folders[parent] = _resolved(parent)
        path = os.path.join(folders[parent], leaf)
        found[name] = _resolved(path) if os.path.islink(path) else path
    return found


def _resolved(path: str) -> str:
    try:
        return os.path.realpath(path)
    except (OSError, ValueError):  # a name that no file can have
        return os.path.abspath(path)
