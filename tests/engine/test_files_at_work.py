"""A run's own files, and those of its artifacts, that change while a stage is at work."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from s4m_pipeline.artifacts.tables import table_files
from s4m_pipeline.engine.perform import perform
from s4m_pipeline.engine.run import Run
from s4m_pipeline.engine.stage import Outcome, Stage
from s4m_pipeline.errors import ArtifactError
from s4m_pipeline.stages.pseudo_label import PseudoLabel
from s4m_pipeline.stages.refine.stage import Refine
from s4m_pipeline.stages.structure import Structure
from s4m_pipeline.stages.train_teacher import TrainTeacher
from tests.workshop import Workshop

Change = Callable[[Run], object]


@pytest.fixture
def done(finished: Workshop, tmp_path: Path) -> Workshop:
    return finished.copy(tmp_path / "run")


@pytest.fixture
def disturbed(monkeypatch: pytest.MonkeyPatch) -> Callable[[Stage, Change], None]:
    """Has a stage's work end with a change of something else."""

    def disturb(stage: Stage, change: Change) -> None:
        make = type(stage).make

        def changed(self: Stage, run: Run, folder: Path) -> Outcome:
            outcome = make(self, run, folder)
            change(run)
            return outcome

        monkeypatch.setattr(type(stage), "make", changed)

    return disturb


def repainted(path: Path) -> None:
    """Another picture of the same size under the same name."""
    with Image.open(path) as image:
        Image.new("RGB", image.size, "red").save(path)


def a_labelled_picture(run: Run) -> None:
    repainted(run.images.labelled.images[0].path)


def an_unlabelled_picture(run: Run) -> None:
    repainted(run.images.unlabelled.images[0].path)


def annotations(run: Run) -> None:
    path = run.config.data.labelled.annotations
    path.write_text(path.read_text() + "\n")


@pytest.mark.parametrize(
    ("stage", "change", "why"),
    [
        (Structure(), a_labelled_picture, "the labelled images changed"),
        (Structure(), annotations, "the labelled images changed"),
        (PseudoLabel(), an_unlabelled_picture, "the unlabelled images changed"),
        (Refine(), an_unlabelled_picture, "the unlabelled images changed"),
    ],
)
def test_a_file_that_changed_meanwhile_is_not_written_down_as_the_one_used(
    done: Workshop, disturbed, stage: Stage, change: Change, why: str
) -> None:
    run = done.run()
    disturbed(stage, change)
    with pytest.raises(ArtifactError, match=f"{why}, while it was at work") as refused:
        perform(run, stage, force=True)
    assert f"s4m {stage.command} -c" in str(refused.value)
    assert len(str(refused.value).splitlines()) <= 3
    assert not run.folder(stage).exists()
    assert done.run().fingerprint(stage) != run.fingerprint(stage)


def test_a_picture_that_is_touched_or_added_meanwhile_changes_nothing(
    done: Workshop, disturbed
) -> None:
    run = done.run()

    def change(run: Run) -> None:
        first = run.images.unlabelled.images[0].path
        first.touch()
        first.with_name("added.jpg").write_bytes(first.read_bytes())

    disturbed(PseudoLabel(), change)
    perform(run, PseudoLabel(), force=True)
    assert run.store.is_complete("pseudo-label", run.fingerprint(PseudoLabel()))


def test_a_table_that_changed_meanwhile_whatever_its_time_is_noticed(
    done: Workshop, disturbed
) -> None:
    run = done.run()

    def change(run: Run) -> None:
        path, *_ = table_files(run.folder(PseudoLabel()), "predictions")
        before, content = path.stat(), bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))

    disturbed(Refine(), change)
    with pytest.raises(ArtifactError, match="its input predictions changed while it was") as told:
        perform(run, Refine(), force=True)
    assert "s4m pseudo-label -c RUN.yaml --force" in str(told.value)
    assert not run.folder(Refine()).exists()


def test_a_model_config_that_changed_since_the_command_began_is_refused(done: Workshop) -> None:
    run = done.run()
    run.fingerprint(TrainTeacher())
    config = done.folder / "tiny.py"
    config.write_text(config.read_text() + "# changed\n")
    with pytest.raises(ArtifactError, match="changed since this command began"):
        perform(run, TrainTeacher(), force=True)
    assert run.store.is_complete("train-teacher", run.fingerprint(TrainTeacher()))


def test_a_model_config_that_changed_during_a_training_is_not_written_down(
    done: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, config = done.run(), done.folder / "tiny.py"

    def make(self: TrainTeacher, run: Run, folder: Path) -> Outcome:
        config.write_text(config.read_text() + "# changed\n")
        return Outcome()

    monkeypatch.setattr(TrainTeacher, "make", make)
    with pytest.raises(ArtifactError, match=r"model: another content.*while it was at work"):
        perform(run, TrainTeacher(), force=True)
    assert not run.folder(TrainTeacher()).exists()
