"""A worker of a stage, or a process that loads data, is killed: the command ends, and goes on."""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Callable
from functools import partial
from itertools import count
from pathlib import Path

import pytest

from tests.faults.forking import Act, forked, members
from tests.faults.subject import ALL, WORKERS, command, make, moments, note, result, without
from tests.workshop import Workshop

MORE = {
    **dict.fromkeys(WORKERS, ("execution.workers=2",)),
    "train-teacher": ("teacher.workers=1",),
    "train-student": ("student.workers=1",),
}
TOLD = ("a worker process ended with exit code -9", "A process that loads data was killed")
SECONDS = 60.0


def _helpers(group: int) -> list[int]:
    """The workers of a process group; not Python's own tracker of semaphores."""
    found = []
    for process in members(group):
        try:
            words = Path(f"/proc/{process}/cmdline").read_bytes()
        except OSError:  # it has ended
            continue
        if process != group and b"resource_tracker" not in words:
            found.append(process)
    return sorted(found)


def _killed(helpers: list[int], number: int) -> list[int]:
    """Kill one of the helpers; gives it, or none where there is none any more."""
    if not helpers:
        return []
    chosen = helpers[number % len(helpers)]
    try:
        os.kill(chosen, signal.SIGKILL)
    except ProcessLookupError:
        return []
    return [chosen]


def _with_workers(then: Callable[[int], None]) -> Act:
    """Do something to a process as soon as it has workers."""

    def act(process: int, path: str) -> None:
        del path
        deadline = time.monotonic() + SECONDS
        while time.monotonic() < deadline and members(process):
            if _helpers(process):
                then(process)
                return
            time.sleep(0.01)

    return act


def _killing_one(later: float, number: int, killed: list[int]) -> Act:
    """Kill one of the workers some seconds after there is one."""

    def kill_one(process: int) -> None:
        time.sleep(later)
        killed.extend(_killed(_helpers(process), number))

    return _with_workers(kill_one)


def _timing(seconds: list[float]) -> Act:
    """Take the time for which there are workers."""

    def wait(process: int) -> None:
        began = time.monotonic()
        while _helpers(process):
            time.sleep(0.01)
        seconds.append(time.monotonic() - began)

    return _with_workers(wait)


@pytest.mark.parametrize("name", MORE)
def test_a_worker_that_is_killed_ends_the_command_which_goes_on(
    whole: Workshop, tmp_path: Path, name: str, small_shards: None
) -> None:
    if not ALL and name not in ("refine", "train-teacher"):
        pytest.skip("runs with make faults")
    taken, expected = _time_and_result(whole, tmp_path, name)
    stopped = 0
    few = moments(0.9 * taken, f"workers {name}", 1, 6 if name in WORKERS else 5)
    for later, number in zip(few, count()):
        copy = without(whole, name, tmp_path / "copy")
        killed: list[int] = []
        ended = forked(
            partial(command, copy, name, *MORE[name]),
            copy.folder / "work",
            after=0.0,
            act=_killing_one(later, number, killed),
        )
        assert ended.left == []
        assert "Traceback" not in ended.told, ended.told
        if ended.code:
            assert killed
            assert ended.code == 1, ended.told
            error = ended.told[ended.told.index("error: ") + len("error: ") :]
            assert error.startswith(TOLD), error
            stopped += 1
            make(copy, name)
        assert result(copy, name) == expected, later
        shutil.rmtree(copy.folder)
    assert stopped or not ALL
    note(name, "SIGKILL of a worker", stopped)


def _time_and_result(whole: Workshop, tmp_path: Path, name: str) -> tuple[float, dict[str, object]]:
    """For how long the command has workers, and what comes out of it."""
    straight, seconds = without(whole, name, tmp_path / "straight"), list[float]()
    ended = forked(
        partial(command, straight, name, *MORE[name]),
        straight.folder / "work",
        after=0.0,
        act=_timing(seconds),
    )
    assert (ended.code, ended.left) == (0, []), ended.told
    return seconds[0], result(straight, name)
