"""The manifest is the list: what it does not name is not read, and it belongs to one place."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from s4m_pipeline.artifacts.manifest import Manifest, read_manifest, write_manifest
from s4m_pipeline.artifacts.sealed import write_sealed
from s4m_pipeline.artifacts.shards import ShardResult, make_shards, write_shard
from s4m_pipeline.artifacts.store import Store
from s4m_pipeline.artifacts.tables import read_rows, read_table, table_files
from s4m_pipeline.engine.perform import freshness, perform
from s4m_pipeline.errors import ArtifactError
from s4m_pipeline.stages.pseudo_label import PseudoLabel
from s4m_pipeline.stages.refine.stage import Refine
from s4m_pipeline.stages.train_teacher import TrainTeacher
from s4m_pipeline.workflow.artifact_views import verify_artifact
from tests.workshop import Workshop


@pytest.fixture
def done(finished: Workshop, tmp_path: Path) -> Workshop:
    return finished.copy(tmp_path / "run")


def test_a_table_that_the_manifest_does_not_list_is_not_read(done: Workshop) -> None:
    run = done.run()
    before = read_manifest(run.folder(Refine()))
    folder = run.folder(PseudoLabel())
    first, *_ = table_files(folder, "predictions")
    rows = read_table(folder, "predictions").to_pylist()
    shutil.copy(first, first.with_name("00099.parquet"))
    shutil.copy(first, first.with_name("a.parquet"))
    assert read_table(folder, "predictions").to_pylist() == rows
    ids = sorted({row["image_id"] for row in rows})
    assert read_rows(folder, "predictions", ids) == rows
    again = perform(run, Refine(), force=True)
    assert again.content == before.content


def test_an_unfinished_artifacts_tables_are_those_of_its_markers(tmp_path: Path) -> None:
    (shard,) = make_shards([1])
    row = {"image_id": 1, "file_name": "a", "stage": "refine", "error": "e", "attempts": 1}
    write_shard(tmp_path, shard, ShardResult({"quarantine": [row]}), [])
    path = tmp_path / "quarantine" / "00000.parquet"
    shutil.copy(path, path.with_name("00007.parquet"))
    assert read_table(tmp_path, "quarantine").num_rows == 1


def test_an_input_that_is_taken_away_or_being_made_is_not_read_as_empty(tmp_path: Path) -> None:
    store = Store(tmp_path / "work")
    with pytest.raises(ArtifactError, match="not finished, or was taken away"):
        read_rows(store.folder("refine", "0" * 16), "refined", [1])
    folder = store.begin("refine", "0" * 16, {}, {})
    with pytest.raises(ArtifactError, match="not finished, or was taken away"):
        table_files(folder, "refined")
    assert read_table(folder, "refined", unfinished=True).num_rows == 0


def test_a_manifest_that_lists_nothing_is_a_fault(done: Workshop) -> None:
    run = done.run()
    folder = run.folder(PseudoLabel())
    manifest = read_manifest(folder)
    manifest.files = []
    write_manifest(folder, manifest)
    with pytest.raises(ArtifactError, match="it lists no file"):
        verify_artifact(folder)
    with pytest.raises(ArtifactError, match="it lists no file"):
        perform(run, Refine(), force=True)


@pytest.mark.parametrize("kind", ["fingerprint", "stage"])
def test_an_artifact_copied_to_another_place_is_refused(done: Workshop, kind: str) -> None:
    run = done.run()
    folder = run.folder(PseudoLabel())
    if kind == "fingerprint":
        run = done.run("pseudo_label.min_score=0.03")
        other = run.folder(PseudoLabel())
        shutil.copytree(folder, other)
    else:
        other = folder
        shutil.rmtree(folder)
        shutil.copytree(run.folder(TrainTeacher()), folder)
    assert freshness(run, PseudoLabel()).state == "damaged"
    with pytest.raises(ArtifactError, match="copied from another place"):
        perform(run, Refine(), force=True)
    with pytest.raises(ArtifactError, match="copied from another place"):
        perform(run, PseudoLabel())
    with pytest.raises(ArtifactError, match="it is of "):
        verify_artifact(other)


def test_a_copy_of_a_whole_work_folder_is_as_good(done: Workshop, tmp_path: Path) -> None:
    for path in (done.folder / "work").glob("*/*/manifest.json"):
        copy = shutil.copytree(path.parent, tmp_path / "backup")
        assert "all as the manifest says" in verify_artifact(copy)
        shutil.rmtree(copy)


@pytest.mark.parametrize("path", ["../../secret", "/etc/passwd", "..", ""])
def test_a_file_outside_the_artifact_is_not_listed(tmp_path: Path, path: str) -> None:
    folder = tmp_path / "refine" / ("0" * 16)
    write_manifest(folder, Manifest("refine", "0" * 16, {}, {}))
    data = json.loads((folder / "manifest.json").read_text())
    data["files"] = [{"path": path, "bytes": 1, "sha256": "0" * 64, "rows": None}]
    write_sealed(folder / "manifest.json", data)
    with pytest.raises(ArtifactError, match="damaged"):
        read_manifest(folder)


@pytest.mark.parametrize(
    "change",
    [
        {"files": None},
        {"files": {}},
        {"files": ["a"]},
        {"files": [{"path": 1, "bytes": 1, "sha256": ""}]},
        {"files": [{"path": "a", "bytes": "1", "sha256": ""}]},
        {"counts": []},
        {"metrics": None},
        {"inputs": "a"},
        {"stage": None},
        {"fingerprint": 1},
    ],
)
def test_a_manifest_of_other_types_is_damaged(tmp_path: Path, change: dict[str, object]) -> None:
    write_manifest(tmp_path, Manifest("refine", "0" * 16, {}, {}))
    path = tmp_path / "manifest.json"
    write_sealed(path, json.loads(path.read_text()) | change)
    with pytest.raises(ArtifactError, match="damaged"):
        read_manifest(tmp_path)
