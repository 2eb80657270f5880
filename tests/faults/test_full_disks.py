"""Full disks: refused at each operation, and a small file system that fills up at any byte.

The command says which disk is full and what to do, ends with exit code 1, and goes on to the same
result once there is room.
"""

from __future__ import annotations

import errno
import os
import random
import shutil
from functools import partial
from pathlib import Path

import pytest

from tests.faults.forking import FILLING, Ended, forked
from tests.faults.subject import (
    ALL,
    SEED,
    STAGES,
    chosen,
    command,
    make,
    most,
    note,
    result,
    skip_unless_short,
    straight_through,
    without,
)
from tests.file_systems import Disk
from tests.workshop import Workshop

ROOM = 400_000_000


def _refuse(process: int, path: str) -> None:
    del process
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)


def _refuse_namelessly(process: int, path: str) -> None:
    """As a descriptor's fsync or write does it, which knows no path."""
    del process, path
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _is_told(ended: Ended, folder: Path) -> None:
    lines = [line for line in ended.told.splitlines() if not line.startswith("warning")]
    assert "Traceback" not in ended.told, ended.told
    assert ended.left == []
    assert ended.code == 1, ended.told
    first = next(line for line in lines if line.startswith("error: "))
    assert first.startswith(f"error: {folder}"), first
    assert "No space left on device" in first
    assert "Free some space there, then run it again." in lines[-1]


@pytest.mark.parametrize("name", STAGES)
def test_refused_an_operation_for_a_full_disk_it_goes_on_to_the_same_result(
    whole: Workshop, tmp_path: Path, name: str
) -> None:
    skip_unless_short(name)
    operations, expected = straight_through(whole, tmp_path / "straight", name, operations=FILLING)
    refused = 0
    for operation in chosen(operations, f"full {name}", 2, most(name, None, 9)):
        copy = without(whole, name, tmp_path / str(operation))
        work = copy.folder / "work"
        act = _refuse_namelessly if operation % 2 else _refuse
        ended = forked(partial(command, copy, name), work, operation, act=act, operations=FILLING)
        # what is remembered of files is not written of those that have just changed
        assert ended.happened or operation - ended.operations <= 2
        if ended.code:  # else it was a cache, without which the work goes on
            _is_told(ended, work)
            refused += 1
            make(copy, name)
        assert result(copy, name) == expected, operation
        shutil.rmtree(copy.folder)
    note(name, "a full disk at a file operation", refused)


@pytest.mark.parametrize("name", STAGES)
def test_on_a_disk_that_fills_up_it_goes_on_to_the_same_result(
    whole: Workshop, disk: Disk, name: str
) -> None:
    skip_unless_short(name)
    straight = without(whole, name, disk.folder / "straight")
    before = disk.used()
    assert forked(partial(command, straight, name), straight.folder / "work").code == 0
    needed, expected = disk.used() - before, result(straight, name)
    shutil.rmtree(straight.folder)
    draw, refused = random.Random(f"{SEED} disk {name}"), 0
    for _ in range((most(name, 8, 4) or 0) if ALL else 1):
        copy = without(whole, name, disk.folder / "copy")
        left = draw.randrange(0, needed, 4096)
        disk.resize(disk.used() + left)
        ended = forked(partial(command, copy, name), copy.folder / "work")
        disk.resize(ROOM)
        if ended.code:
            _is_told(ended, copy.folder / "work")
            refused += 1
            make(copy, name)
        assert result(copy, name) == expected, left
        shutil.rmtree(copy.folder)
    assert refused
    note(name, "a full disk", refused)
