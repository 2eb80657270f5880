"""Files that a killed process had not finished: found, so that the next run or gc clears them.

Everything is written under a name of its own first, which ends in one of `UNFINISHED`.
"""

from __future__ import annotations

import time
from pathlib import Path

UNFINISHED = frozenset({".partial", ".part", ".tmp"})
OLD_SECONDS = 3600.0
"""A file beside the artifacts that has not changed for so long is not being written any more."""


def clear_artifact(folder: Path) -> None:
    """Remove unfinished files from an artifact's folder, whose lock the caller holds."""
    for path in folder.rglob("*"):
        if path.suffix in UNFINISHED and path.is_file():
            path.unlink(missing_ok=True)


def strays(work_dir: Path) -> list[Path]:
    """Unfinished files beside the artifacts, such as a cache of digests or a ``latest``.

    Any process may be writing there, so young ones are left out.
    """
    found = []
    for path in [*work_dir.glob(".*"), *work_dir.glob("*/.*")]:
        try:
            age = time.time() - path.stat().st_mtime
        except OSError:  # it is finished by now
            continue
        if path.suffix in UNFINISHED and path.is_file() and age > OLD_SECONDS:
            found.append(path)
    return sorted(found)


def clear_strays(work_dir: Path) -> None:
    """Remove what `strays` finds."""
    for path in strays(work_dir):
        path.unlink(missing_ok=True)
