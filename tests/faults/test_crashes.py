"""Stages that are killed, at every file operation or at any moment, and gone on with.

A few of the crashes run with the other tests; ``make faults`` runs all of them and writes the table
of docs/reliability.md.
"""

from __future__ import annotations

import shutil
import time
from functools import partial
from pathlib import Path

import pytest

from tests.faults.forking import forked
from tests.faults.subject import (
    ALL,
    STAGES,
    TRAINS,
    chosen,
    make,
    moments,
    most,
    note,
    result,
    straight_through,
    without,
)
from tests.workshop import Workshop


@pytest.mark.parametrize("name", STAGES)
def test_killed_at_a_file_operation_it_goes_on_to_the_same_result(
    whole: Workshop, tmp_path: Path, name: str
) -> None:
    if not ALL and name == "cross-fit":
        pytest.skip("runs with make faults")
    count, expected = straight_through(whole, tmp_path / "straight", name, work=make)
    assert count > 5
    if name != "train-teacher":  # the run's own is trained for longer
        assert expected == result(whole, name)
    killed = 0
    few = 1 if name in TRAINS else 2
    operations = chosen(count, name, few, most(name, None, 12))
    for operation in operations:
        copy = without(whole, name, tmp_path / str(operation))
        died = forked(partial(make, copy, name), copy.folder / "work", at=operation)
        killed += died.happened
        assert died.code == (-9 if died.happened else 0), died.told
        make(copy, name)
        assert result(copy, name) == expected, operation
        shutil.rmtree(copy.folder)
    assert killed
    note(name, "SIGKILL at a file operation", killed)


@pytest.mark.skipif(not ALL, reason="runs with make faults")
@pytest.mark.parametrize("name", STAGES)
def test_killed_at_any_moment_it_goes_on_to_the_same_result(
    whole: Workshop, tmp_path: Path, name: str
) -> None:
    straight = without(whole, name, tmp_path / "straight")
    began = time.perf_counter()
    forked(partial(make, straight, name), straight.folder / "work")
    taken = time.perf_counter() - began
    expected = result(straight, name)
    killed = 0
    for moment in moments(taken, name, 0, most(name, 12, 6)):
        copy = without(whole, name, tmp_path / "copy")
        killed += forked(partial(make, copy, name), copy.folder / "work", after=moment).happened
        make(copy, name)
        assert result(copy, name) == expected, moment
        shutil.rmtree(copy.folder)
    note(name, "SIGKILL at a random moment", killed)
