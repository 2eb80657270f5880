"""One changed bit in an artifact: noticed by ``verify``, and by the stage that reads the file."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from s4m_pipeline.artifacts import store
from s4m_pipeline.artifacts.fingerprint import file_digest
from s4m_pipeline.artifacts.manifest import MANIFEST, read_manifest
from s4m_pipeline.artifacts.training_files import CHECKPOINT, is_for_people
from s4m_pipeline.engine.perform import freshness, perform
from s4m_pipeline.engine.stage import Stage
from s4m_pipeline.errors import ArtifactError
from s4m_pipeline.stages.evaluate import Evaluate
from s4m_pipeline.stages.pseudo_label import PseudoLabel
from s4m_pipeline.stages.refine.stage import Refine
from s4m_pipeline.stages.structure import Structure
from s4m_pipeline.stages.train_student import TrainStudent
from s4m_pipeline.stages.train_teacher import TrainTeacher
from s4m_pipeline.workflow.artifact_views import verify_artifact
from tests.workshop import Workshop

READERS: list[tuple[Stage, Stage]] = [
    (Structure(), TrainStudent()),
    (TrainTeacher(), PseudoLabel()),
    (PseudoLabel(), Refine()),
    (Refine(), TrainStudent()),
    (TrainStudent(), Evaluate("student")),
]
"""Each stage, and one that reads its artifact."""


@pytest.fixture(scope="module")
def done(finished: Workshop, tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    """A finished run in which bits are flipped and flipped back."""
    return finished.copy(tmp_path_factory.mktemp("flipped") / "run")


@contextmanager
def flipped(path: Path, seed: int) -> Iterator[None]:
    """A file with one bit changed, somewhere."""
    content = path.read_bytes()
    place = random.Random(seed).randrange(8 * len(content))
    changed = bytearray(content)
    changed[place // 8] ^= 1 << place % 8
    path.write_bytes(changed)
    try:
        yield
    finally:
        path.write_bytes(content)


@pytest.mark.parametrize(("stage", "reader"), READERS, ids=lambda stage: stage.title)
@pytest.mark.parametrize("seed", range(3))
def test_no_stage_goes_on_with_a_flipped_bit(
    done: Workshop, stage: Stage, reader: Stage, seed: int
) -> None:
    run = done.run("execution.workers=1")
    folder = run.folder(stage)
    before = run.store.latest(reader.name)
    for entry in read_manifest(folder).input_files:
        with flipped(folder / entry.path, seed):
            with pytest.raises(ArtifactError) as refused:
                perform(run, reader, force=True)
            text = str(refused.value)
            assert str(folder / entry.path) in text
            assert f"s4m {stage.command} -c" in text
            assert "--force" in text
            assert len(text.splitlines()) <= 3
    assert run.store.latest(reader.name) == before
    assert run.require(stage) == folder


@pytest.mark.parametrize("stage", [*(pair[0] for pair in READERS), Evaluate("teacher")])
def test_verify_notices_a_flipped_bit_in_every_file(done: Workshop, stage: Stage) -> None:
    folder = done.run().folder(stage)
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        for seed in range(3):
            with flipped(path, seed), pytest.raises(ArtifactError, match=path.name):
                verify_artifact(folder)
    verify_artifact(folder)


@pytest.mark.parametrize("seed", range(200))
def test_a_flipped_bit_in_a_manifest_is_noticed_by_verify_and_by_the_next_stage(
    done: Workshop, seed: int
) -> None:
    folder = done.run().folder(TrainTeacher())
    with flipped(folder / MANIFEST, seed):
        with pytest.raises(ArtifactError):
            verify_artifact(folder)
        with pytest.raises(ArtifactError):
            done.run().require(TrainTeacher())
        assert freshness(done.run(), TrainTeacher()).state == "damaged"


def test_a_figure_that_changed_in_a_manifest_is_not_shown(done: Workshop, s4m) -> None:
    path = done.run().folder(Evaluate("teacher")) / MANIFEST
    text = path.read_text()
    place = text.index('"AP":') + len('"AP": 0.')
    path.write_text(f"{text[:place]}{(int(text[place]) + 1) % 10}{text[place + 1 :]}")
    try:
        for command in ("evaluate", "status"):
            of = ("--of", "teacher") if command == "evaluate" else ()
            code, out, err = s4m(command, "-c", done.config, *of)
            assert "damaged" in out + err
            assert code == (3 if command == "evaluate" else 0)
        code, out, err = s4m("artifacts", "show", path.parent)
        assert (code, out) == (3, "")
        assert "damaged" in err
    finally:
        path.write_text(text)


def test_each_file_is_read_once_for_its_state(
    done: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    from s4m_pipeline.artifacts import manifest

    read: list[str] = []
    digest = manifest.file_digest

    def noting(path: Path) -> str:
        read.append(path.name)
        return digest(path)

    monkeypatch.setattr(manifest, "file_digest", noting)
    run = done.run()
    for _ in range(3):
        run.require(TrainTeacher())
    assert read == [CHECKPOINT]
    (run.folder(TrainTeacher()) / CHECKPOINT).touch()
    run.require(TrainTeacher())
    assert read == [CHECKPOINT, CHECKPOINT]


def test_a_file_that_changed_between_two_looks_is_read_again_whatever_its_time(
    done: Workshop,
) -> None:
    run = done.run()
    path = run.require(TrainTeacher()) / CHECKPOINT
    before = path.stat()
    with flipped(path, 3):
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
        with pytest.raises(ArtifactError, match="SHA-256"):
            run.require(TrainTeacher())


def test_status_compares_sizes_alone(done: Workshop) -> None:
    path = done.run().folder(TrainTeacher()) / CHECKPOINT
    with flipped(path, 1):
        assert freshness(done.run(), TrainTeacher()).state == "fresh"
    content = path.read_bytes()
    path.write_bytes(content[:-1])
    assert freshness(done.run(), TrainTeacher()).state == "damaged"
    path.write_bytes(content)


def test_a_checkpoint_that_is_named_by_its_path_is_compared_too(done: Workshop, s4m) -> None:
    folder = done.run().folder(TrainTeacher())
    with flipped(folder / CHECKPOINT, 2):
        code, _, err = s4m("evaluate", "-c", done.config, "--of", folder)
    assert code == 3
    assert "checkpoint.pth: its SHA-256 is not the manifest's" in err
    assert "s4m train-teacher" in err


@pytest.mark.parametrize("how", ["evaluate", "train-student", "convert-checkpoint"])
def test_a_bit_that_changed_by_itself_in_a_file_that_is_named_by_its_path(
    done: Workshop, s4m, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """A disk that fails changes no time, so nothing that is remembered of the file counts."""
    path = done.run().folder(TrainTeacher()) / CHECKPOINT
    out = done.folder / "converted.pth"
    command = {
        "evaluate": ("evaluate", "-c", done.config, "--of", path),
        "train-student": ("train-student", "-c", done.config, f"student.weights={path}"),
        "convert-checkpoint": ("convert-checkpoint", path, out, "--to", "detectron2"),
    }[how]
    remembered = file_digest(path)
    monkeypatch.setattr(store, "content_digest", lambda *_: remembered)
    with flipped(path, 3):
        code, _, err = s4m(*command)
    assert code == 3
    assert f"{path}: its SHA-256 is not the manifest's" in err
    assert "s4m train-teacher -c RUN.yaml" in err
    assert not out.exists()


@pytest.mark.parametrize("stage", [TrainTeacher(), TrainStudent()])
def test_only_the_checkpoint_of_a_training_is_an_input(done: Workshop, stage: Stage) -> None:
    folder = done.run().folder(stage)
    for entry in read_manifest(folder).files:
        if is_for_people(entry.path):
            content = (folder / entry.path).read_bytes()
            (folder / entry.path).unlink()
            assert freshness(done.run(), stage).state == "fresh"
            assert done.run().require(stage) == folder
            (folder / entry.path).write_bytes(content)


def test_where_an_input_of_an_input_is_damaged_its_own_command_is_named(done: Workshop) -> None:
    run = done.run()
    path = run.folder(TrainTeacher()) / MANIFEST
    with flipped(path, 1), pytest.raises(ArtifactError) as refused:
        perform(run, TrainStudent(), force=True)
    assert str(path) in str(refused.value)
    assert f"{run.command_for(TrainTeacher())} --force" in str(refused.value)


def test_what_reads_one_table_alone_compares_that_table_alone(done: Workshop, s4m) -> None:
    run = done.run()
    files = {
        entry.path.split("/")[0]: entry.path for entry in read_manifest(run.folder(Refine())).files
    }
    truth = done.folder / "scenes" / "unlabelled.json"
    command = ("label-quality", "-c", done.config, "--annotations", truth, "--json")
    code, whole, _ = s4m(*command)
    assert code == 0
    with flipped(run.folder(Refine()) / files["structure"], 1):
        assert s4m(*command)[:2] == (0, whole)
    with flipped(run.folder(Refine()) / files["refined"], 1):
        code, _, err = s4m(*command)
    assert code == 3
    assert "its SHA-256 is not the manifest's" in err
