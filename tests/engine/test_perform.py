"""Where a stage stands: what is read to say it, and that what changes meanwhile is noticed."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import pytest

from s4m_pipeline.artifacts import store
from s4m_pipeline.artifacts.manifest import Manifest, file_entry, read_manifest, write_manifest
from s4m_pipeline.artifacts.sealed import write_sealed
from s4m_pipeline.engine.perform import freshness
from s4m_pipeline.stages.trainings import training_of_round
from s4m_pipeline.workflow.pipeline import stages_of_rounds, status
from tests.workshop import Workshop

ROUNDS = 8


@pytest.fixture
def eight_rounds(empty_workshop: Workshop, tmp_path: Path) -> Workshop:
    """A run of eight rounds, its artifacts nothing but manifests and a file each."""
    copy = empty_workshop.copy(tmp_path / "run")
    run = copy.run()
    for stage in stages_of_rounds(run.config, ROUNDS):
        inputs = stage.upstream(run.config).items()
        manifest = Manifest(
            stage.name,
            run.fingerprint(stage),
            stage.settings(run.config),
            stage.inputs(run),
            {name: run.store.manifest(s.name, run.fingerprint(s)).content for name, s in inputs},
        )
        folder = run.folder(stage)
        folder.mkdir(parents=True)
        (folder / "file").write_text("")
        manifest.files.append(file_entry(folder, folder / "file"))
        write_manifest(folder, manifest)
    return copy


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The folders whose manifests are read."""
    folders: list[Path] = []

    def counting(folder: Path) -> Manifest:
        folders.append(folder)
        return read_manifest(folder)

    monkeypatch.setattr(store, "read_manifest", counting)
    return folders


def test_each_manifest_is_read_once_and_a_round_adds_its_own_three(
    eight_rounds: Workshop, read: list[Path]
) -> None:
    counts = []
    for number in range(1, ROUNDS + 1):
        read.clear()
        assert freshness(eight_rounds.run(), training_of_round(number)).state == "fresh"
        assert len(read) == len(set(read))
        counts.append(len(read))
    assert {later - earlier for earlier, later in pairwise(counts)} == {3}


def test_status_of_all_rounds_reads_each_manifest_once(
    eight_rounds: Workshop, read: list[Path]
) -> None:
    run = eight_rounds.run()
    assert {row["state"] for row in status(run)} == {"fresh"}
    assert len(read) == len(set(read)) == len(stages_of_rounds(run.config, ROUNDS))


def test_a_manifest_that_changes_is_read_again(eight_rounds: Workshop) -> None:
    run = eight_rounds.run()
    student = training_of_round(ROUNDS)
    assert freshness(run, student).state == "fresh"
    path = run.folder(training_of_round(1)) / "manifest.json"
    write_sealed(path, json.loads(path.read_text()) | {"metrics": {"a": 1}})
    assert freshness(run, student).state == "fresh"  # its files are the same
    path.write_text("{")
    standing = freshness(run, student)
    assert standing.state == "stale"
    assert "is damaged" in standing.why
