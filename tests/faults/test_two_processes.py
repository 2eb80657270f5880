"""Two commands at one work folder: one makes a stage, the other refuses or does no harm."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from select import select

import pytest
import torch

from s4m_pipeline.cli import main
from s4m_pipeline.engine.registry import stage_named
from tests.faults.forking import Ended, forked
from tests.faults.subject import (
    SETTINGS,
    STAGES,
    WITH_COMMAND,
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
from tests.workshop import Workshop

MADE = "is being made by another process."


def _words(*words: object) -> Callable[[], None]:
    """A command line, to be carried out in a process of its own."""

    def call() -> None:
        torch.set_num_threads(1)
        sys.argv = ["s4m", *map(str, words)]
        main()

    return call


def _beside(
    work: Callable[[], object], folder: Path, at: int, others: list[Callable[[], object]]
) -> tuple[Ended, list[Ended]]:
    """Stop some work at an operation, do other work from its begin to its end, and let it go on."""
    stops, stopped = os.pipe()
    goes_on, let = os.pipe()

    def wait(process: int, path: str) -> None:
        del process, path
        os.write(stopped, b".")
        os.read(goes_on, 1)

    with ThreadPoolExecutor(1) as pool, ExitStack() as stack:
        for descriptor in (stops, stopped, goes_on, let):
            stack.callback(os.close, descriptor)
        one = pool.submit(forked, work, folder, at, act=wait)
        try:
            while not one.done() and not select([stops], [], [], 0.05)[0]:
                continue
            ended = [forked(other, folder) for other in others]
        finally:
            os.write(let, b".")
        return one.result(), ended


@pytest.mark.parametrize("name", STAGES)
def test_of_two_that_make_the_same_stage_one_makes_it(
    whole: Workshop, tmp_path: Path, name: str
) -> None:
    skip_unless_short(name)
    operations, expected = straight_through(whole, tmp_path / "straight", name)
    count = 0
    for at in chosen(operations, f"two {name}", 2, most(name, 8, 3)):
        copy = without(whole, name, tmp_path / "copy")
        work = copy.folder / "work"
        one, (other,) = _beside(
            partial(command, copy, name), work, at, [partial(command, copy, name)]
        )
        assert one.happened
        assert sorted((one.code, other.code)) in ([0, 0], [0, 1]), one.told + other.told
        for ended in (one, other):
            assert "Traceback" not in ended.told
            assert ended.code == 0 or MADE in ended.told
        assert result(copy, name) == expected, at
        shutil.rmtree(copy.folder)
        count += 1
    note(name, "the same stage in two processes", count)


@pytest.mark.parametrize("name", WITH_COMMAND)
def test_who_looks_or_tidies_up_beside_it_does_no_harm(
    whole: Workshop, tmp_path: Path, name: str
) -> None:
    skip_unless_short(name)
    operations, expected = straight_through(whole, tmp_path / "straight", name)
    count = 0
    for at in chosen(operations, f"beside {name}", 1, most(name, 4, 2)):
        copy = without(whole, name, tmp_path / "copy")
        work = copy.folder / "work"
        settings = ("-c", copy.config, *SETTINGS.get(name, ()))
        others = [
            _words("status", *settings),
            _words("artifacts", "gc", work, "--remove"),
            _words("artifacts", "list", work),
            _words(name, *settings, "--dry-run"),
        ]
        one, looked = _beside(partial(command, copy, name), work, at, others)
        assert [ended.code for ended in looked] == [0] * len(others), [e.told for e in looked]
        assert one.code == 0, one.told
        make(copy, name)
        assert result(copy, name) == expected, at
        shutil.rmtree(copy.folder)
        count += len(others)
    note(name, "`status`, `list`, `gc`, `--dry-run` beside it", count)


@pytest.mark.parametrize("name", WITH_COMMAND)
def test_force_beside_it_makes_the_stage_once(whole: Workshop, tmp_path: Path, name: str) -> None:
    skip_unless_short(name)
    operations, expected = straight_through(whole, tmp_path / "straight", name)
    count = 0
    for at in chosen(operations, f"force {name}", 1, most(name, 4, 2)):
        copy = without(whole, name, tmp_path / "copy")
        work = copy.folder / "work"
        again = _words(name, "-c", copy.config, *SETTINGS.get(name, ()), "--force")
        one, (other,) = _beside(partial(command, copy, name), work, at, [again])
        for ended in (one, other):
            assert "Traceback" not in ended.told
            assert ended.code == 0 or (ended.code == 1 and MADE in ended.told), ended.told
        assert 0 in (one.code, other.code)
        assert result(copy, name) == expected, at
        shutil.rmtree(copy.folder)
        count += 1
    note(name, "`--force` in another process", count)


@pytest.mark.parametrize(
    ("name", "of"), [("refine", "pseudo-label"), ("train-teacher", "structure")]
)
def test_an_input_that_is_made_again_beside_it_with_the_same_result_does_no_harm(
    whole: Workshop, tmp_path: Path, name: str, of: str
) -> None:
    skip_unless_short(name)
    operations, expected = straight_through(whole, tmp_path / "straight", name)
    count = 0
    for at in chosen(operations, f"input {name}", 1, most(name, 4, 2)):
        copy = without(whole, name, tmp_path / "copy")
        again = _words(of, "-c", copy.config, "--force")
        one, (other,) = _beside(partial(command, copy, name), copy.folder / "work", at, [again])
        assert other.code == 0, other.told
        assert one.code == 0, one.told
        assert result(copy, name) == expected, at
        shutil.rmtree(copy.folder)
        count += 1
    note(name, "an input made again in another process", count)


def test_different_stages_are_made_at_once(whole: Workshop, tmp_path: Path) -> None:
    names = ("structure", "evaluate", "pseudo-label", "held-out")
    copy = whole.copy(tmp_path / "copy")
    for name in names:
        shutil.rmtree(copy.run().folder(stage_named(name)))
    with ThreadPoolExecutor(len(names)) as pool:
        ends = [
            pool.submit(forked, lambda name=name: command(copy, name), copy.folder / "work")
            for name in names
        ]
        for end in ends:
            assert end.result().code == 0, end.result().told
    for name in names:
        assert result(copy, name) == result(whole, name)
        note(name, "beside three other stages", 1)
