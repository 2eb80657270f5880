"""One stage of a finished run, taken away and made again: how, and what must come out the same."""

from __future__ import annotations

import json
import os
import random
import shutil
import sys
from collections.abc import Callable, Collection
from functools import partial
from pathlib import Path

import pytest
import torch

from s4m_pipeline.artifacts.manifest import verify
from s4m_pipeline.artifacts.training_files import CHECKPOINT, LOG
from s4m_pipeline.cli import main
from s4m_pipeline.commands import app
from s4m_pipeline.engine.perform import freshness, perform
from s4m_pipeline.engine.registry import STAGES as ROWS
from s4m_pipeline.engine.registry import stage_named
from s4m_pipeline.engine.stage import Stage
from tests.faults.forking import OPERATIONS, forked
from tests.workshop import CALIBRATION, Workshop

ALL = os.environ.get("S4M_FAULTS") == "all"
TABLE = os.environ.get("S4M_FAULTS_TABLE")
STAGES = tuple(name for name in ROWS if name != "compare-labels")
"""All but the one that only a training with refreshes has."""
TRAINS = ("train-teacher", "train-student", "cross-fit")
"""Stages that train, where each trial takes seconds."""
WORKERS = ("pseudo-label", "refine", "structure")
"""Stages that are tried with two workers."""
SETTINGS = {
    "train-teacher": ("teacher.iterations=6", "teacher.checkpoint_interval=2"),
    "cross-fit": CALIBRATION,
    "calibrate": CALIBRATION,
}
"""What is set for a stage, beside the run's file."""
WITH_COMMAND = tuple(name for name in STAGES if ROWS[name].help)
SHORT = ("structure", "refine")
"""Stages of which a trial runs with the other tests."""
SEED = 5


def stage_of(name: str) -> Stage:
    """A stage of the first round."""
    return stage_named(name)


def skip_unless_short(name: str) -> None:
    """Leave the stages that take longer to ``make faults``."""
    if not ALL and name not in SHORT:
        pytest.skip("runs with make faults")


def without(whole: Workshop, name: str, folder: Path) -> Workshop:
    """A copy without the stage's artifact."""
    copy = whole.copy(folder)
    shutil.rmtree(copy.run(*SETTINGS.get(name, ())).folder(stage_of(name)), ignore_errors=True)
    return copy


def make(workshop: Workshop, name: str, *overrides: str) -> None:
    """Perform the stage, in one thread."""
    torch.set_num_threads(1)
    perform(workshop.run(*SETTINGS.get(name, ()), *overrides), stage_of(name))


def command(workshop: Workshop, name: str, *more: str) -> None:
    """Perform the stage as its command does, which ends the process with its exit code."""
    torch.set_num_threads(1)
    words = [name, "-c", str(workshop.config), *SETTINGS.get(name, ()), *more]
    if name not in WITH_COMMAND:
        app.call = lambda _: make(workshop, name, *more)  # type: ignore[assignment]
    sys.argv = ["s4m", *words]
    main()


def result(workshop: Workshop, name: str) -> dict[str, object]:
    """What must come out the same: files by digest, or a training's weights bit for bit.

    The artifact is looked at as its users do: whole, fresh, and without leftovers beside it.
    """
    run, stage = workshop.run(*SETTINGS.get(name, ())), stage_of(name)
    folder = run.require(stage)
    manifest = run.store.manifest(stage.name, run.fingerprint(stage))
    assert verify(folder, manifest) == []
    assert freshness(run, stage).state == "fresh"
    files = {entry.path: entry.sha256 for entry in manifest.files}
    if CHECKPOINT in files:
        content = torch.load(folder / CHECKPOINT, weights_only=True)
        return {key: value.numpy().tobytes() for key, value in content["state_dict"].items()}
    return {path: digest for path, digest in files.items() if not path.endswith(LOG)}


def straight_through(
    whole: Workshop,
    folder: Path,
    name: str,
    work: Callable[[Workshop, str], None] = command,
    operations: Collection[str] = OPERATIONS,
) -> tuple[int, dict[str, object]]:
    """How many operations a stage takes where nothing happens, and what comes out of it."""
    copy = without(whole, name, folder)
    ended = forked(partial(work, copy, name), copy.folder / "work", operations=operations)
    assert ended.code == 0, ended.told
    return ended.operations, result(copy, name)


def most(name: str, others: int | None, trainings: int) -> int | None:
    """How many trials of a stage there are with ``make faults``, fewer where each takes long."""
    if name == "cross-fit":  # two trainings
        return -(-trainings // 3)
    return trainings if name in TRAINS else others


def chosen(count: int, kind: str, few: int, many: int | None) -> list[int]:
    """Operations of ``count``, drawn by the seed: ``few``, or with ``make faults`` ``many``.

    None is all of them.
    """
    wanted = few if not ALL else count if many is None else many
    draw = random.Random(f"{SEED} {kind}")
    return sorted(draw.sample(range(1, count + 1), min(wanted, count)))


def moments(seconds: float, kind: str, few: int, many: int | None) -> list[float]:
    """Moments drawn by the seed within the seconds that the work takes."""
    draw = random.Random(f"{SEED} moments {kind}")
    return [draw.uniform(0, seconds) for _ in range((many or 0) if ALL else few)]


def note(name: str, kind: str, count: int) -> None:
    """Keep how many trials there were, for the table of docs/reliability.md."""
    if TABLE:
        with open(TABLE, "a") as stream:
            stream.write(json.dumps([name, kind, count]) + "\n")
