"""Ctrl-C and SIGTERM, once and twice, to the command alone and to all of its processes.

Whatever the moment: exit code 130, a message without a traceback, no process left behind, and the
same command goes on to the same result.
"""

from __future__ import annotations

import os
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import cycle, islice
from pathlib import Path

import pytest

from s4m_pipeline.errors import INTERRUPTED
from tests.faults.forking import Act, Ended, forked
from tests.faults.subject import (
    ALL,
    STAGES,
    WITH_COMMAND,
    WORKERS,
    chosen,
    command,
    make,
    moments,
    most,
    note,
    result,
    skip_unless_short,
    straight_through,
    without,
)
from tests.workshop import Workshop

PAUSE = 0.02
"""Seconds from the first to the second Ctrl-C of an impatient user."""
LOADERS = {"train-teacher": ("teacher.workers=1",), "train-student": ("student.workers=1",)}


def _sending(number: int, times: int, send: Callable[[int, int], None]) -> Act:
    """A signal, once or twice."""

    def act(process: int, path: str) -> None:
        del path
        for left in reversed(range(times)):
            if left and os.getpid() == process:
                threading.Timer(PAUSE, send, (process, number)).start()
                continue
            send(process, number)
            if left:
                time.sleep(PAUSE)

    return act


ACTS = {
    "Ctrl-C to the terminal's group": _sending(signal.SIGINT, 1, os.killpg),
    "Ctrl-C to the command alone": _sending(signal.SIGINT, 1, os.kill),
    "Ctrl-C twice to the group": _sending(signal.SIGINT, 2, os.killpg),
    "Ctrl-C twice to the command": _sending(signal.SIGINT, 2, os.kill),
    "SIGTERM to the group": _sending(signal.SIGTERM, 1, os.killpg),
    "SIGTERM to the command alone": _sending(signal.SIGTERM, 1, os.kill),
    "SIGTERM twice to the command": _sending(signal.SIGTERM, 2, os.kill),
}


def _acts(name: str) -> Iterator[tuple[str, Act]]:
    """The kinds of interrupt in turn; each stage begins with another one."""
    return islice(cycle(ACTS.items()), STAGES.index(name) % len(ACTS), None)


def _is_told(ended: Ended, name: str) -> None:
    """An interrupted command says so, and whether it goes on; one that was done is done."""
    assert "Traceback" not in ended.told, ended.told
    assert ended.left == []
    assert ended.code in (INTERRUPTED, 0), ended.told
    if ended.code == INTERRUPTED:
        last = ended.told.splitlines()[-1]
        goes_on = name in WITH_COMMAND and name != "evaluate"
        assert last.startswith("interrupted; run it again" if goes_on else "interrupted")


@pytest.mark.parametrize("name", STAGES)
def test_interrupted_at_a_file_operation_it_goes_on_to_the_same_result(
    whole: Workshop, tmp_path: Path, name: str
) -> None:
    skip_unless_short(name)
    count, expected = straight_through(whole, tmp_path / "straight", name)
    acts, stopped = _acts(name), 0
    operations = chosen(count, f"interrupts {name}", 2, most(name, 21, 7))
    for operation in operations:
        kind, act = next(acts)
        copy = without(whole, name, tmp_path / str(operation))
        ended = forked(partial(command, copy, name), copy.folder / "work", operation, act=act)
        _is_told(ended, name)
        assert ended.code == INTERRUPTED, (kind, operation)
        stopped += 1
        make(copy, name)
        assert result(copy, name) == expected, (kind, operation)
        shutil.rmtree(copy.folder)
    note(name, "Ctrl-C or SIGTERM at a file operation", stopped)


@pytest.mark.skipif(not ALL, reason="runs with make faults")
@pytest.mark.parametrize("name", STAGES)
def test_interrupted_at_any_moment_it_goes_on_to_the_same_result(
    whole: Workshop, tmp_path: Path, name: str
) -> None:
    note(name, "Ctrl-C or SIGTERM at a random moment", _at_moments(whole, tmp_path, name, (), 0))


@pytest.mark.parametrize("name", WORKERS)
def test_with_two_workers_no_one_stays_behind(
    whole: Workshop, tmp_path: Path, name: str, small_shards: None
) -> None:
    if not ALL and name != "refine":
        pytest.skip("runs with make faults")
    more = ("execution.workers=2",)
    count = _at_moments(whole, tmp_path, name, more, few=1)
    note(name, "Ctrl-C or SIGTERM at a random moment, two workers", count)


@pytest.mark.skipif(not ALL, reason="runs with make faults")
@pytest.mark.parametrize("name", LOADERS)
def test_with_a_process_that_loads_data_no_one_stays_behind(
    whole: Workshop, tmp_path: Path, name: str
) -> None:
    count = _at_moments(whole, tmp_path, name, LOADERS[name], few=0)
    note(name, "Ctrl-C or SIGTERM at a random moment, a loading process", count)


def _at_moments(whole: Workshop, tmp_path: Path, name: str, more: tuple[str, ...], few: int) -> int:
    """Interrupt a command at random moments; gives how often that was before its end."""
    taken, expected = _time_and_result(whole, tmp_path, name, more)
    acts, stopped = _acts(name), 0
    for moment in moments(
        taken, f"interrupts {name} {more}", few, most(name, len(ACTS), len(ACTS))
    ):
        kind, act = next(acts)
        copy = without(whole, name, tmp_path / "copy")
        ended = forked(
            partial(command, copy, name, *more),
            copy.folder / "work",
            after=moment,
            act=act,
        )
        _is_told(ended, name)
        stopped += ended.code == INTERRUPTED
        make(copy, name)
        assert result(copy, name) == expected, (kind, moment)
        shutil.rmtree(copy.folder)
    return stopped


def _time_and_result(
    whole: Workshop, tmp_path: Path, name: str, more: tuple[str, ...]
) -> tuple[float, dict[str, object]]:
    """How long the command takes, and what comes out of it; a guess for a short selection."""
    straight = without(whole, name, tmp_path / "straight")
    if not ALL:
        make(straight, name)
        return 4.0, result(straight, name)
    began = time.perf_counter()
    ended = forked(partial(command, straight, name, *more), straight.folder / "work")
    assert (ended.code, ended.left) == (0, []), ended.told
    return time.perf_counter() - began, result(straight, name)
