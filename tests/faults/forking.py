"""Work in a forked process, to which something happens at a file operation or after some time."""

from __future__ import annotations

import os
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT
FILLING = frozenset({"open", "os.mkdir", "os.rename", "os.link", "fsync"})
"""Operations that a full disk may refuse."""
OPERATIONS = (FILLING - {"fsync"}) | {"os.remove", "os.rmdir", "os.truncate"}
"""Audit events that change what is on disk; ``open`` where it is for writing."""
SOON = 8.0
"""Seconds in which the processes that it had started must be gone too."""
LONGEST = 240.0
"""Seconds after which a process hangs."""

Act = Callable[[int, str], None]
"""What happens: gets the process and the path at which it is, empty where that is not known. What
it raises in the process, the file operation raises."""


@dataclass(frozen=True, slots=True)
class Ended:
    """How the process ended.

    Attributes:
        code: Its exit code, negative for the signal that killed it.
        operations: How many file operations it did; 0 where it was killed.
        happened: Whether it was still there when something was to happen.
        told: What it wrote to standard error.
        left: Processes that it had started and that are still there soon afterwards.
    """

    code: int
    operations: int
    happened: bool
    told: str
    left: list[int]


def kill(process: int, path: str) -> None:
    """End the process without a chance to tidy up."""
    del path
    os.kill(process, signal.SIGKILL)


def _changed(event: str, arguments: tuple[object, ...], folder: str) -> str:
    """The path that an operation changes below a folder; empty for none."""
    path = arguments[0] if arguments else None
    if event == "open" and not (isinstance(arguments[2], int) and arguments[2] & WRITING):
        return ""
    if not isinstance(path, (str, bytes, os.PathLike)):
        return ""
    name = os.fsdecode(os.path.abspath(os.fspath(path)))
    return name if name.startswith(folder) else ""


@dataclass(frozen=True, slots=True)
class _Trial:
    """What happens, where, and the files for what is told and for the facts."""

    folder: Path
    at: int | None
    act: Act
    operations: Collection[str]
    told: int
    facts: int


def _watch(trial: _Trial) -> Callable[[], int]:
    """Count operations, and act at one; gives what tells their number."""
    count, me = 0, os.getpid()
    real_fsync = os.fsync

    def meet(event: str, arguments: tuple[object, ...]) -> None:
        nonlocal count
        if event not in trial.operations or os.getpid() != me:
            return
        if path := _changed(event, arguments, str(trial.folder)):
            count += 1
            if count == trial.at:
                os.write(trial.facts, b"happened ")
                trial.act(me, path)

    def fsync(descriptor: int) -> None:
        meet("fsync", (os.readlink(f"/proc/self/fd/{descriptor}"),))
        real_fsync(descriptor)

    sys.addaudithook(meet)
    os.fsync = fsync  # type: ignore[assignment]
    return lambda: count


def _child(work: Callable[[], object], trial: _Trial) -> None:
    """Do the work as a command of its own would, then write down how many operations there were."""
    os.setsid()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 1)
        sys.stdout = os.fdopen(os.dup(nowhere.fileno()), "w")
    os.dup2(trial.told, 2)
    sys.stderr = os.fdopen(os.dup(trial.told), "w", buffering=1)
    operations, code = _watch(trial), 1
    try:
        work()
        code = 0
    except SystemExit as ended:
        code = int(ended.code or 0)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os.write(trial.facts, str(operations()).encode())
        os._exit(code)


def forked(
    work: Callable[[], object],
    folder: Path,
    at: int | None = None,
    after: float | None = None,
    act: Act = kill,
    operations: Collection[str] = OPERATIONS,
) -> Ended:
    """Do some work in a fork of this process, the first of a process group of its own.

    Args:
        work: Called there; its end is the process's, as ``sys.exit`` says.
        folder: Operations below it are counted.
        at: The operation at which something happens, from 1; None for none.
        after: Seconds after which something happens, done by this process; None for never.
        act: What happens.
        operations: Which operations count.
    """
    with tempfile.TemporaryFile() as told, tempfile.TemporaryFile() as facts:
        child = os.fork()
        if child == 0:
            _child(work, _Trial(folder, at, act, operations, told.fileno(), facts.fileno()))
        while os.getpgid(child) != child:  # until it leads its group, or has ended with an error
            if _ends_within(child, 0.001):
                break
        happened = after is not None and not _ends_within(child, after)
        if happened:
            act(child, "")
        if not _ends_within(child, LONGEST):
            os.killpg(child, signal.SIGKILL)
            raise RuntimeError("the work hangs in the forked process")
        _, status = os.waitpid(child, 0)
        left = _left_of(child)
        told.seek(0)
        facts.seek(0)
        words = facts.read().decode().split()
        return Ended(
            code=os.waitstatus_to_exitcode(status),
            operations=int(next((word for word in words if word.isdigit()), 0)),
            happened=happened or "happened" in words,
            told=told.read().decode(errors="replace"),
            left=left,
        )


def _ends_within(child: int, seconds: float) -> bool:
    """Wait for the end of a child, which stays to be asked for its status."""
    deadline = time.monotonic() + seconds
    while not os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT):
        if time.monotonic() > deadline:
            return False
        time.sleep(min(0.002, seconds))
    return True


def _left_of(group: int) -> list[int]:
    """Members of a process group that do not end soon; they are killed."""
    deadline = time.monotonic() + SOON
    while (found := members(group)) and time.monotonic() < deadline:
        time.sleep(0.05)
    if found:
        os.killpg(group, signal.SIGKILL)
    return found


def members(group: int) -> list[int]:
    """The processes of a group, but those that are dead and not yet buried."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                state, _, of_group = (entry / "stat").read_text().rpartition(")")[2].split()[:3]
            except (OSError, ValueError):
                continue
            if int(of_group) == group and state not in "ZX":
                found.append(int(entry.name))
    return found
