import json
import os

import pytest

from s4m_pipeline.artifacts.collecting import leftovers
from s4m_pipeline.artifacts.manifest import Manifest, file_entry, read_manifest, verify
from s4m_pipeline.artifacts.markers import marker_at
from s4m_pipeline.artifacts.shards import (
    ShardResult,
    make_shards,
    read_marker,
    remove_shards,
    shard_size,
    write_shard,
)
from s4m_pipeline.artifacts.store import Store
from s4m_pipeline.engine.registry import STAGES
from s4m_pipeline.errors import ArtifactError, S4MError


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "work")


def finish(store, mark="a" * 16, stage="refine"):
    folder = store.begin(stage, mark, {"score": 0.7}, {"predictions": "p"})
    (folder / "table").write_text("content")
    files = [file_entry(folder, folder / "table")]
    store.finish(folder, Manifest(stage, mark, {"score": 0.7}, {"predictions": "p"}, files=files))
    return folder


def test_an_artifact_is_unfinished_until_its_manifest_is_there(store):
    store.begin("refine", "m", {}, {})
    assert store.is_begun("refine", "m")
    assert not store.is_complete("refine", "m")
    assert store.latest("refine") is None
    finish(store, "m")
    assert store.is_complete("refine", "m")
    assert store.latest("refine") == "m"


def test_manifest_has_what_the_design_promises(store):
    written = json.loads((finish(store) / "manifest.json").read_text())
    assert set(written) == {
        "format_version",
        "stage",
        "fingerprint",
        "created",
        "config",
        "inputs",
        "input_contents",
        "files",
        "counts",
        "metrics",
        "environment",
        "sha256",
    }
    assert set(written["files"][0]) == {"path", "bytes", "sha256", "rows"}


def test_manifest_of_another_format_version_is_refused(store):
    folder = finish(store)
    data = json.loads((folder / "manifest.json").read_text()) | {"format_version": 1}
    (folder / "manifest.json").write_text(json.dumps(data))
    with pytest.raises(ArtifactError, match="format version 1, this s4m reads 2"):
        read_manifest(folder)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"format_version": 2}'])
def test_damaged_manifest_is_refused(store, text):
    folder = finish(store)
    (folder / "manifest.json").write_text(text)
    with pytest.raises(ArtifactError, match="damaged"):
        read_manifest(folder)


@pytest.mark.parametrize("wrong", [{"bytes": -1}, {"bytes": True}, {"rows": -1}, {"rows": 1.0}])
def test_a_manifest_whose_numbers_count_nothing_is_refused(store, wrong):
    folder = finish(store)
    data = json.loads((folder / "manifest.json").read_text())
    del data["sha256"]  # as of an s4m that did not seal, so that the numbers decide
    data["files"][0] |= wrong
    (folder / "manifest.json").write_text(json.dumps(data))
    with pytest.raises(ArtifactError, match="'table' has no number of bytes or rows"):
        read_manifest(folder)


def test_verify_names_what_changed(store):
    folder = finish(store)
    assert verify(folder, read_manifest(folder)) == []
    (folder / "table").write_text("CONTENT")
    assert "SHA-256" in verify(folder, read_manifest(folder))[0]
    (folder / "table").write_text("longer content")
    assert "bytes" in verify(folder, read_manifest(folder))[0]
    (folder / "table").unlink()
    assert verify(folder, read_manifest(folder)) == ["table: missing"]


def test_two_makers_of_one_artifact_do_not_meet(store):
    second = store.lock("refine", "m")
    with store.lock("refine", "m"), pytest.raises(S4MError, match="another process"), second:
        pass
    with store.lock("refine", "m"):
        pass


def test_shards_are_cut_by_sorted_id():
    shards = make_shards([5, 3, 9, 1, 7], size=2)
    assert [s.image_ids for s in shards] == [(1, 3), (5, 7), (9,)]
    assert [s.name for s in shards] == ["00000", "00001", "00002"]


def test_a_shard_counts_as_done_only_with_marker_and_files(tmp_path):
    (shard,) = make_shards([1])
    row = {"image_id": 1, "file_name": "a", "stage": "refine", "error": "e", "attempts": 1}
    assert read_marker(tmp_path, shard) is None
    write_shard(tmp_path, shard, ShardResult({"quarantine": [row]}, {"quarantined": 1}), [])
    marker = read_marker(tmp_path, shard)
    assert marker is not None
    assert marker.counts == {"quarantined": 1}
    assert marker.files[0].rows == 1
    (tmp_path / marker.files[0].path).unlink()
    assert read_marker(tmp_path, shard) is None


def test_a_marker_of_other_images_does_not_count_and_shards_beyond_the_cut_are_removed(tmp_path):
    row = {"image_id": 1, "file_name": "a", "stage": "refine", "error": "e", "attempts": 1}
    wide, narrow = make_shards(range(6), size=2), make_shards(range(6), size=3)
    for shard in wide:
        write_shard(tmp_path, shard, ShardResult({"quarantine": [row]}), [])
    assert all(read_marker(tmp_path, shard) for shard in wide)
    assert not any(read_marker(tmp_path, shard) for shard in narrow)
    remove_shards(tmp_path, len(narrow))
    (tmp_path / "quarantine" / "00002.parquet.partial").touch()  # of a run that was ended
    remove_shards(tmp_path, len(narrow))
    left = sorted(path.name for path in tmp_path.rglob("0*"))
    assert left == ["00000.json", "00000.parquet", "00001.json", "00001.parquet"]


@pytest.mark.parametrize(
    ("images", "size"),
    [(1, 16), (70, 16), (2048, 16), (2049, 32), (10_000, 80), (118_287, 928), (300_000, 1024)],
)
def test_shard_size_follows_from_the_set_alone(images, size):
    assert shard_size(images) == size


def test_latest_is_kept_by_kind(store):
    for mark, kind in (("a" * 16, "teacher"), ("b" * 16, "student")):
        folder = store.begin("evaluate", mark, {}, {})
        store.finish(folder, Manifest("evaluate", mark, {}, {}), kind)
    assert store.latest("evaluate", "teacher") == "a" * 16
    assert store.latest("evaluate", "student") == "b" * 16
    assert store.latest("evaluate") == "b" * 16
    assert leftovers(store, STAGES) == []


def test_the_latest_without_a_pointer_is_none_of_those_with_one(store):
    def made(mark, pointer=""):
        folder = store.begin("train-student", mark * 16, {}, {})
        store.finish(folder, Manifest("train-student", mark * 16, {}, {}), pointer)

    made("a", "refresh-1")
    assert store.latest("train-student") == "a" * 16
    assert store.latest_of("train-student", "") is None
    made("b")
    made("c", "refresh-1")
    made("d", "round-2")
    assert store.latest_of("train-student", "refresh-1") == "c" * 16
    assert store.latest_of("train-student", "round-2") == "d" * 16
    os.utime(store.folder("train-student", "a" * 16), (1, 1))
    assert store.latest_of("train-student", "") == "b" * 16


@pytest.mark.parametrize("inputs", [None, 7, ["a"], "text"])
def test_what_an_artifact_was_made_for_is_mappings_or_nothing(store, inputs):
    folder = store.folder("refine", "0123456789abcdef")
    folder.mkdir(parents=True)
    asked = {"stage": "refine", "config": {}, "inputs": inputs}
    (folder / "request.json").write_text(json.dumps(asked))
    assert store.requested("refine", folder.name) == {}
    assert leftovers(store, STAGES) is not None


@pytest.mark.parametrize(
    "change",
    [{"counts": {"images": None}}, {"seconds": {"a": "b"}}, {"warnings": 7}, {"warnings": [{}]}],
)
def test_a_marker_with_values_of_another_kind_is_none(tmp_path, change):
    good = {"images": "ab", "files": [], "counts": {"images": 3}, "seconds": {"a": 0.5}}
    path = tmp_path / "00000.json"
    path.write_text(json.dumps(good))
    assert marker_at(path).counts == {"images": 3}
    path.write_text(json.dumps({**good, **change}))
    with pytest.raises(ValueError, match="no marker of a shard"):
        marker_at(path)
