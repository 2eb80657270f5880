"""Files of a work folder that somebody else may have made: only plain ones are read or written.

Whoever made the folder can have put a link, a pipe or a device where a file belongs. Written
through, a link overwrites what it leads to; read, a pipe waits for ever and a device never ends.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from s4m_pipeline.errors import ArtifactError

MOST_BYTES = 1 << 28
"""Of a file of JSON or text that is read whole: a manifest of a million files has as many."""


def read_plain(path: Path, most: int = MOST_BYTES) -> bytes:
    """The content of a file that is no pipe and no device; links to plain files are followed.

    Args:
        path: The file.
        most: Bytes that it may have.

    Raises:
        OSError: It cannot be read, is no plain file, or is longer.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as stream:
        state = os.fstat(descriptor)
        if not stat.S_ISREG(state.st_mode):
            raise OSError(f"{path} is no plain file")
        if state.st_size > most:
            raise OSError(f"{path} has {state.st_size:,} bytes, at most {most:,} are read")
        return stream.read()


def read_plain_text(path: Path) -> str:
    """`read_plain` as text; bytes that are not UTF-8 are replaced."""
    return read_plain(path).decode("utf-8", "replace")


def clear_the_way(path: Path) -> Path:
    """Remove what stands where a file of ours is about to be written; a link is not followed.

    Returns:
        The path.
    """
    path.unlink(missing_ok=True)
    return path


def refuse_links(folder: Path) -> None:
    """Refuse to work in an artifact's folder that is a link, or holds one or anything odd.

    Raises:
        ArtifactError: It does; the message names it.
    """
    for path, mode in _entries(folder):
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
            what = "a link" if stat.S_ISLNK(mode) else "no plain file"
            raise ArtifactError(
                f"{path} is {what}, and s4m makes none inside an artifact.\n"
                "Nothing is written there; move it away, or use another work_dir."
            )


def _entries(folder: Path) -> Iterator[tuple[Path, int]]:
    """A folder and all that is in it, with their kinds; links are not followed."""
    mode = folder.lstat().st_mode
    yield folder, mode
    if stat.S_ISDIR(mode):
        for inner in sorted(folder.iterdir()):
            yield from _entries(inner)
