"""Resuming and repairing: shards whose tables are as their markers say are kept, no others."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from s4m_pipeline.artifacts.manifest import read_manifest, write_manifest
from s4m_pipeline.artifacts.shards import Shard, ShardResult, make_shards, read_marker, write_shard
from s4m_pipeline.engine.perform import perform
from s4m_pipeline.errors import ArtifactError
from s4m_pipeline.stages.pseudo_label import PseudoLabel
from s4m_pipeline.workflow.artifact_views import verify_artifact
from tests.workshop import Workshop


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def empty(path: Path) -> None:
    path.write_bytes(b"")


DAMAGES = [flip, cut, empty, Path.unlink]


@pytest.fixture
def shard(tmp_path: Path) -> Shard:
    (shard,) = make_shards([1])
    row = {"image_id": 1, "file_name": "a", "stage": "refine", "error": "e", "attempts": 1}
    write_shard(tmp_path, shard, ShardResult({"quarantine": [row]}, {"quarantined": 1}), [])
    return shard


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", ["quarantine/00000.parquet", "shards/00000.json"])
def test_a_marker_counts_only_where_all_is_as_it_says(
    tmp_path: Path, shard: Shard, name: str, damage: Callable[[Path], None]
) -> None:
    assert read_marker(tmp_path, shard) is not None
    damage(tmp_path / name)
    assert read_marker(tmp_path, shard) is None


def test_a_bit_anywhere_in_a_marker_is_noticed(tmp_path: Path, shard: Shard) -> None:
    path = tmp_path / "shards" / "00000.json"
    content = path.read_bytes()
    for place in range(8 * len(content)):
        changed = bytearray(content)
        changed[place // 8] ^= 1 << place % 8
        path.write_bytes(changed)
        assert read_marker(tmp_path, shard) is None, place


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_shard_of_a_stopped_stage_is_made_again(
    finished: Workshop, tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    copy = finished.copy(tmp_path / "run")
    folder = copy.run().folder(PseudoLabel())
    before = read_manifest(folder)
    (folder / "manifest.json").unlink()
    damage(folder / before.files[0].path)
    again = perform(copy.run(), PseudoLabel())
    assert again.files == before.files
    assert again.counts == before.counts
    verify_artifact(folder)


def made_again(folder: Path) -> set[str]:
    """The tables of a folder whose files are not those that `noted` saw."""
    return {p.name for p in folder.glob("predictions/*.parquet") if p.stat().st_ino not in NOTED}


NOTED: set[int] = set()


@pytest.fixture
def several(finished: Workshop, tmp_path: Path) -> Workshop:
    """A finished run whose predictions are in two shards."""
    copy = finished.copy(tmp_path / "run")
    folder = copy.run().folder(PseudoLabel())
    NOTED.clear()
    NOTED.update(path.stat().st_ino for path in folder.glob("predictions/*.parquet"))
    assert len(NOTED) == 2
    return copy


@pytest.mark.parametrize("damage", DAMAGES)
def test_repairing_one_shard_makes_one_shard(
    several: Workshop, damage: Callable[[Path], None]
) -> None:
    folder = several.run().folder(PseudoLabel())
    before = read_manifest(folder)
    path = folder / "predictions" / "00001.parquet"
    kept = path.with_name("kept")
    kept.hardlink_to(path)  # so that no new file gets its number
    if damage in (flip, cut, empty):
        content = path.read_bytes()
        path.unlink()
        path.write_bytes(content)
    damage(path)
    again = perform(several.run(), PseudoLabel(), force=True)
    kept.unlink()
    assert made_again(folder) == {"00001.parquet"}
    assert again.files == before.files
    assert again.counts == before.counts
    assert not (folder.parent / ".replaced").exists()
    verify_artifact(folder)


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_marker_is_noticed_and_repaired_with_its_shard(
    several: Workshop, damage: Callable[[Path], None]
) -> None:
    folder = several.run().folder(PseudoLabel())
    before = read_manifest(folder)
    damage(folder / "shards" / "00001.json")
    with pytest.raises(ArtifactError, match=r"shards/00001\.json: (damaged|missing)"):
        verify_artifact(folder)
    again = perform(several.run(), PseudoLabel(), force=True)
    assert made_again(folder) == {"00001.parquet"}
    assert again.files == before.files
    verify_artifact(folder)


def test_another_shards_marker_is_noticed(several: Workshop) -> None:
    folder = several.run().folder(PseudoLabel())
    shutil.copy(folder / "shards" / "00000.json", folder / "shards" / "00001.json")
    with pytest.raises(ArtifactError, match=r"00001\.json: it is of other files than the manifest"):
        verify_artifact(folder)


def test_forcing_a_whole_artifact_makes_all_of_it(several: Workshop) -> None:
    folder = several.run().folder(PseudoLabel())
    perform(several.run(), PseudoLabel(), force=True)
    assert made_again(folder) == {"00000.parquet", "00001.parquet"}
    assert (folder.parent / ".replaced").is_dir()


def test_shards_of_other_versions_are_not_kept(several: Workshop) -> None:
    folder = several.run().folder(PseudoLabel())
    manifest = read_manifest(folder)
    manifest.environment["packages"]["torch"] = "1.0"
    write_manifest(folder, manifest)
    flip(folder / "predictions" / "00001.parquet")
    perform(several.run(), PseudoLabel(), force=True)
    assert made_again(folder) == {"00000.parquet", "00001.parquet"}
