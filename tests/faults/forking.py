"""Stages in a forked process that is killed at one of its file operations, or after some time."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT
OPERATIONS = ("os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.truncate", "os.link")
"""Audit events, beside ``open`` for writing, that change what is on disk."""


def _changes_disk(event: str, arguments: tuple[object, ...], folder: str) -> bool:
    if event == "open":
        path, _, flags = arguments
        changes = isinstance(flags, int) and bool(flags & WRITING)
    elif event in OPERATIONS:
        path, changes = arguments[0], True
    else:
        return False
    if not changes or not isinstance(path, (str, bytes, os.PathLike)):
        return False
    return os.fsdecode(os.path.abspath(os.fspath(path))).startswith(folder)


def _child(work: Callable[[], object], folder: Path, at: int | None, pipe: int) -> None:
    """Do the work; die at an operation, or say how many there were."""
    count = 0

    def count_and_die(event: str, arguments: tuple[object, ...]) -> None:
        nonlocal count
        if _changes_disk(event, arguments, str(folder)):
            count += 1
            if count == at:
                os.kill(os.getpid(), signal.SIGKILL)

    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 1)
        os.dup2(nowhere.fileno(), 2)
    sys.addaudithook(count_and_die)
    code = 1
    try:
        work()
        code = 0
    finally:
        os.write(pipe, str(count).encode())
        os._exit(code)


def forked(
    work: Callable[[], object], folder: Path, at: int | None = None, after: float | None = None
) -> tuple[bool, int]:
    """Do some work in a fork of this process.

    Args:
        work: Called there.
        folder: Operations below it are counted.
        at: The operation at which the process is killed, from 1; None for none.
        after: Seconds after which it is killed; None for never.

    Returns:
        Whether it was killed, and how many operations it did (0 where it was killed).
    """
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        _child(work, folder, at, writing)
    os.close(writing)
    if after is not None:
        time.sleep(after)
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    with os.fdopen(reading) as stream:
        text = stream.read()
    killed = os.WIFSIGNALED(status)
    if not killed and os.waitstatus_to_exitcode(status) != 0:
        raise RuntimeError("the work failed in the forked process")
    return killed, int(text or 0)
