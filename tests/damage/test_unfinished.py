"""What a stopped stage left behind, damaged in every way: gone on with, to the same result.

A seeded selection runs with the other tests; ``make faults`` tries all, of what has to train for it
only `MOST`.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from s4m_pipeline.artifacts.manifest import Manifest
from s4m_pipeline.artifacts.training_files import CHECKPOINT
from s4m_pipeline.engine.perform import perform
from s4m_pipeline.engine.registry import stage_named
from s4m_pipeline.engine.run import Run
from s4m_pipeline.engine.stage import Stage
from s4m_pipeline.errors import ArtifactError
from s4m_pipeline.models.hooks import JsonLinesHook
from s4m_pipeline.workflow.artifact_views import verify_artifact
from tests.damage.kinds import ANOTHER, KINDS, another_of, damage, remove
from tests.damage.whole_run import SETTINGS, chosen, files_of, note, run_of
from tests.workshop import Workshop, WorkshopOnce

SHARDED = ("structure", "pseudo-label", "refine", "calibrate", "held-out", "cross-fit")
TRAININGS = ("train-teacher", "train-student")
SHORT = {
    name: (f"{part}.iterations=6", f"{part}.checkpoint_interval=2")
    for name, part in zip(TRAININGS, ("teacher", "student"), strict=True)
}
SHORT["train-student"] += ("student.refresh=0",)
"""A short training, by stage; the student's teacher is the whole one."""
STOPPED_AFTER = 5
FEW = {"calibrate": 2, "cross-fit": 1, "train-teacher": 3, "train-student": 2}
"""How many of a stage's pairs the short selection has, where that is not five."""

MOST = {"cross-fit": 30, "train-teacher": 30, "train-student": 30}
"""How many pairs ``make faults`` has of a stage that has to train for each."""


class StoppedError(Exception):
    """Raised in the middle of a training."""


@contextmanager
def stopping() -> Iterator[None]:
    """Stop every training after some iterations."""
    whole = JsonLinesHook.after_train_iter

    def after(self: JsonLinesHook, runner: object, *rest: object, **named: object) -> None:
        whole(self, runner, *rest, **named)
        if runner.iter + 1 == STOPPED_AFTER:
            raise StoppedError

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(JsonLinesHook, "after_train_iter", after)
        yield


def _go_on(run: Run, stage: Stage, path: Path) -> tuple[Manifest, str]:
    """Make an unfinished artifact; where that is refused by the file's name, without the file."""
    try:
        return perform(run, stage), "gone on with, to the same result"
    except ArtifactError as refused:
        text = str(refused)
        assert str(path) in text
        assert len(text.splitlines()) <= 3
    finally:
        assert another_of(path).read_text() == ANOTHER
    remove(path)
    return perform(run, stage), "refused by name until it is removed, then the same result"


def _chosen(name: str, pairs: Sequence[tuple[str, str]]) -> Sequence[tuple[str, str]]:
    return chosen(f"stopped {name}", pairs, FEW.get(name, 5), MOST.get(name, 1000))


def _contents(manifest: Manifest) -> list[tuple[str, str]]:
    """What stages read; messages about images that were set aside name the run's folder."""
    return [
        (entry.path, str(entry.rows) if "quarantine" in entry.path else entry.sha256)
        for entry in manifest.input_files
    ]


@pytest.mark.parametrize("name", SHARDED)
def test_a_stopped_stage_comes_to_the_same_result(
    everything: Workshop, tmp_path: Path, name: str
) -> None:
    stage = stage_named(name)
    whole = run_of(everything)
    before = whole.store.manifest(name, whole.fingerprint(stage))
    names = [path for path in files_of(whole.folder(stage)) if path != "manifest.json"]
    pairs = [(path, kind) for path in [*names, "request.json"] for kind in KINDS]
    for number, (path, kind) in enumerate(_chosen(name, pairs)):
        copy = everything.copy(tmp_path / str(number))
        run = run_of(copy)
        folder = run.folder(stage)
        run.store.reopen(name, before.fingerprint)
        damage(folder / path, kind)
        again, what = _go_on(run_of(copy), stage, folder / path)
        assert _contents(again) == _contents(before), (path, kind)
        assert again.counts == before.counts
        verify_artifact(folder)
        shutil.rmtree(copy.folder)
        note("stopped", name, what, 1)


@pytest.fixture(scope="module")
def straight(everything: Workshop, workshop_once: WorkshopOnce) -> Workshop:
    """A run whose short trainings were not stopped."""

    def train(workshop: Workshop) -> None:
        for name in TRAININGS:
            perform(_short(workshop, name), stage_named(name))

    return workshop_once("short trainings", everything, train)


@pytest.fixture(scope="module")
def stopped(everything: Workshop, workshop_once: WorkshopOnce) -> Workshop:
    """A run whose short trainings were stopped between two checkpoints."""

    def train(workshop: Workshop) -> None:
        for name in TRAININGS:
            with stopping(), pytest.raises(StoppedError):
                perform(_short(workshop, name), stage_named(name))

    return workshop_once("stopped trainings", everything, train)


def _short(workshop: Workshop, name: str) -> Run:
    return workshop.run(*SETTINGS, *SHORT[name])


def _weights(run: Run, stage: Stage) -> dict[str, bytes]:
    content = torch.load(run.require(stage) / CHECKPOINT, weights_only=True)
    return {name: tensor.numpy().tobytes() for name, tensor in content["state_dict"].items()}


@pytest.mark.parametrize("name", TRAININGS)
def test_a_stopped_training_comes_to_the_same_weights(
    straight: Workshop, stopped: Workshop, tmp_path: Path, name: str
) -> None:
    stage = stage_named(name)
    expected = _weights(_short(straight, name), stage)
    names = files_of(_short(stopped, name).folder(stage))
    assert {"mmengine/iter_4.pth", "mmengine/iter_4.pth.sha256", "log.jsonl"} <= {*names}
    pairs = [(path, kind) for path in names for kind in KINDS]
    for number, (path, kind) in enumerate(_chosen(name, pairs)):
        copy = stopped.copy(tmp_path / str(number))
        folder = _short(copy, name).folder(stage)
        damage(folder / path, kind)
        _, what = _go_on(_short(copy, name), stage, folder / path)
        assert _weights(_short(copy, name), stage) == expected, (path, kind)
        verify_artifact(folder)
        shutil.rmtree(copy.folder)
        note("stopped", name, what, 1)
