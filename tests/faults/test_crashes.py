"""Stages that are killed, at every file operation or at any moment, and gone on with.

A few of the crashes run with the other tests; ``make faults`` runs all of them and writes the table
of docs/reliability.md.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import time
from collections import Counter
from pathlib import Path

import pytest
import torch

from s4m_pipeline.artifacts.manifest import verify
from s4m_pipeline.engine.perform import freshness, perform
from s4m_pipeline.engine.registry import stage_named
from s4m_pipeline.engine.stage import Stage
from tests.faults.killing import forked
from tests.workshop import Workshop

ALL = os.environ.get("S4M_FAULTS") == "all"
TABLE = os.environ.get("S4M_FAULTS_TABLE")
STAGES = ("structure", "pseudo-label", "refine", "evaluate", "train-teacher", "train-student")
TRAININGS = ("train-teacher", "train-student")
AT_RANDOM = {"train-teacher": 6, "train-student": 6}
SEED = 5


def _stage(name: str) -> Stage:
    return stage_named(name)


def _result(workshop: Workshop, name: str) -> dict[str, object]:
    """What must come out the same: files by digest, or a training's weights bit for bit."""
    run, stage = workshop.run(), _stage(name)
    folder = run.require(stage)
    manifest = run.store.manifest(stage.name, run.fingerprint(stage))
    assert verify(folder, manifest) == []
    assert freshness(run, stage).state == "fresh"
    if name in TRAININGS:
        content = torch.load(folder / "checkpoint.pth", weights_only=True)
        return {key: value.numpy().tobytes() for key, value in content["state_dict"].items()}
    return {entry.path: entry.sha256 for entry in manifest.files}


def _without(finished: Workshop, name: str, folder: Path) -> Workshop:
    """A copy without the stage's artifact."""
    copy = finished.copy(folder)
    shutil.rmtree(copy.run().folder(_stage(name)))
    return copy


def _perform(workshop: Workshop, name: str) -> None:
    torch.set_num_threads(1)
    perform(workshop.run(), _stage(name))


def _chosen(count: int, name: str) -> list[int]:
    """The operations at which to kill: all, or few of a training's and of a short selection."""
    every = range(1, count + 1)
    generator = random.Random(f"{SEED} {name}")
    if not ALL:
        return sorted(generator.sample(every, min(2 if name not in TRAININGS else 1, count)))
    return list(every) if name not in TRAININGS else sorted(generator.sample(every, min(12, count)))


def _note(name: str, kind: str, count: int) -> None:
    """Keep how many crashes there were, for the table."""
    if TABLE:
        with open(TABLE, "a") as stream:
            stream.write(json.dumps([name, kind, count]) + "\n")


@pytest.mark.parametrize("name", STAGES)
def test_killed_at_a_file_operation_it_goes_on_to_the_same_result(
    finished: Workshop, tmp_path: Path, name: str
) -> None:
    straight = _without(finished, name, tmp_path / "straight")
    work = straight.folder / "work"
    killed, count = forked(lambda: _perform(straight, name), work)
    assert not killed
    assert count > 5
    expected = _result(straight, name)
    assert expected == _result(finished, name)
    seen: Counter[str] = Counter()
    for operation in _chosen(count, name):
        copy = _without(finished, name, tmp_path / str(operation))
        killed, _ = forked(lambda: _perform(copy, name), copy.folder / "work", at=operation)  # noqa: B023
        seen["killed" if killed else "ended"] += 1
        _perform(copy, name)
        assert _result(copy, name) == expected, operation
        shutil.rmtree(copy.folder)
    assert seen["killed"]
    _note(name, "at a file operation", seen["killed"])


@pytest.mark.skipif(not ALL, reason="runs with make faults")
@pytest.mark.parametrize("name", STAGES)
def test_killed_at_any_moment_it_goes_on_to_the_same_result(
    finished: Workshop, tmp_path: Path, name: str
) -> None:
    straight = _without(finished, name, tmp_path / "straight")
    began = time.perf_counter()
    forked(lambda: _perform(straight, name), straight.folder / "work")
    whole = time.perf_counter() - began
    expected, generator = _result(straight, name), random.Random(f"{SEED} moments {name}")
    seen = 0
    for number in range(AT_RANDOM.get(name, 12)):
        copy = _without(finished, name, tmp_path / str(number))
        moment = generator.uniform(0, whole)
        killed, _ = forked(lambda: _perform(copy, name), copy.folder / "work", after=moment)  # noqa: B023
        seen += killed
        _perform(copy, name)
        assert _result(copy, name) == expected, moment
        shutil.rmtree(copy.folder)
    _note(name, "at a random moment", seen)
