"""Locks on files: one process makes an artifact at a time, and others can see that one does.

The system frees a lock when its holder ends, however it ends.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

TRIES = 10
PAUSE = 0.05
"""Seconds between two tries: who only looks whether a lock is held has it for a moment."""


@contextmanager
def held(path: Path) -> Iterator[None]:
    """Hold a lock.

    Args:
        path: The lock's file; made where it is missing, in a folder that is there. A link in its
            place is not followed, and nothing is written.

    Raises:
        BlockingIOError: Another process holds it.
        OSError: It cannot be opened, or is a link.
    """
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    with os.fdopen(os.open(path, flags, 0o666), "rb") as stream:
        for left in reversed(range(TRIES)):
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if not left:
                    raise
                time.sleep(PAUSE)
        yield


def is_held(path: Path) -> bool:
    """Whether a process holds a lock. Nothing is written, so the folder may be read-only."""
    try:
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        with os.fdopen(os.open(path, flags), "rb") as stream:
            fcntl.flock(stream, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # there is no lock, or it cannot be looked at
        return False
    return False
