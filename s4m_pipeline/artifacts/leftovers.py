"""Files that a killed process had not finished: found, so that the next run or gc clears them.

Everything is written under a name of its own first, which ends in one of `UNFINISHED`.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable
from pathlib import Path

UNFINISHED = frozenset({".partial", ".part", ".tmp"})
_OURS = re.compile(r"\.(digests|latest[\w.-]*)\.\d+\.(tmp|partial)")
"""Names that unfinished files beside the artifacts have, with the number of their process."""
OLD_SECONDS = 3600.0
"""A file beside the artifacts that has not changed for so long is not being written any more."""


def clear_artifact(folder: Path) -> None:
    """Remove unfinished files from an artifact's folder, whose lock the caller holds."""
    for path in folder.rglob("*"):
        if path.suffix in UNFINISHED and path.is_file():
            path.unlink(missing_ok=True)


def strays(work_dir: Path, stages: Iterable[str]) -> list[Path]:
    """Unfinished files beside the artifacts: facts of files, a ``latest``.

    Any process may be writing there, so young ones are left out.

    Args:
        work_dir: The work folder.
        stages: The stages whose folders are looked into; links are not followed.
    """
    folders = [work_dir / stage for stage in sorted(stages)]
    beside = [path for folder in folders if not folder.is_symlink() for path in folder.glob(".*")]
    found = []
    for path in [*work_dir.glob(".*"), *beside]:
        try:
            age = time.time() - path.lstat().st_mtime
        except OSError:  # it is finished by now
            continue
        if _OURS.fullmatch(path.name) and path.is_file() and age > OLD_SECONDS:
            found.append(path)
    return sorted(found)


def clear_strays(work_dir: Path, stages: Iterable[str]) -> None:
    """Remove what `strays` finds."""
    for path in strays(work_dir, stages):
        path.unlink(missing_ok=True)
