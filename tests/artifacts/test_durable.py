"""Power cuts: what a manifest, a marker or a digest says is on the disk before it says so.

Seen from outside: the order of ``fsync`` and of renames. A name counts as on the disk when its
folder was synced after it was given, and a file's bytes when the file was.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from s4m_pipeline.artifacts.digest_beside import write_digest
from s4m_pipeline.artifacts.manifest import Manifest, file_entry
from s4m_pipeline.artifacts.shards import ShardResult, make_shards, write_shard
from s4m_pipeline.artifacts.store import Store

ROW = {"image_id": 1, "file_name": "a", "stage": "refine", "error": "e", "attempts": 1}
Event = tuple[str, int | str]


@pytest.fixture
def events(monkeypatch: pytest.MonkeyPatch) -> list[Event]:
    """What happens: ``("synced", inode)`` and ``("named", path)``."""
    seen: list[Event] = []
    sync, replace = os.fsync, Path.replace

    def noting_sync(descriptor: int) -> None:
        sync(descriptor)
        seen.append(("synced", os.fstat(descriptor).st_ino))

    def noting_replace(self: Path, target: Path) -> Path:
        named = replace(self, target)
        seen.append(("named", str(target)))
        return named

    monkeypatch.setattr(os, "fsync", noting_sync)
    monkeypatch.setattr(Path, "replace", noting_replace)
    return seen


def check_on_disk(events: list[Event], path: Path, top: Path, before: Event) -> None:
    """Check that a file's bytes and the names that lead to it were synced before an event."""
    past = events[: events.index(before)]
    named = ("named", str(path))
    given = len(past) - 1 - past[::-1].index(named) if named in past else -1
    assert ("synced", path.stat().st_ino) in past, f"the bytes of {path}"
    assert ("synced", path.parent.stat().st_ino) in past[given + 1 :], f"the name of {path}"
    for folder in path.parents:
        if folder == top:
            break
        assert ("synced", folder.parent.stat().st_ino) in past, f"the name of {folder}"


def test_tables_are_on_the_disk_before_their_marker_is(tmp_path: Path, events: list[Event]) -> None:
    folder = tmp_path / "work" / "refine" / ("a" * 16)
    (shard,) = make_shards([1])
    marker = write_shard(folder, shard, ShardResult({"quarantine": [ROW]}), [])
    named = ("named", str(folder / "shards" / "00000.json"))
    for entry in marker.files:
        check_on_disk(events, folder / entry.path, tmp_path, named)
    check_on_disk([*events, ("end", 0)], folder / "shards/00000.json", tmp_path, ("end", 0))
    assert events.index(("synced", (folder / "shards/00000.json").stat().st_ino)) < events.index(
        named
    )


def test_all_files_are_on_the_disk_before_the_manifest_and_that_before_latest(
    tmp_path: Path, events: list[Event]
) -> None:
    store = Store(tmp_path / "work")
    folder = store.begin("train-student", "a" * 16, {}, {})
    (folder / "folds" / "0").mkdir(parents=True)
    for name in ("checkpoint.pth", "folds/0/log.jsonl"):
        (folder / name).write_bytes(b"content")
    files = [file_entry(folder, folder / name) for name in ("checkpoint.pth", "folds/0/log.jsonl")]
    store.finish(folder, Manifest("train-student", "a" * 16, {}, {}, files=files))
    named = ("named", str(folder / "manifest.json"))
    for entry in files:
        check_on_disk(events, folder / entry.path, tmp_path, named)
    latest = ("named", str(folder.parent / "latest"))
    check_on_disk(events, folder / "manifest.json", tmp_path, latest)


def test_a_checkpoint_is_on_the_disk_before_its_digest_is(
    tmp_path: Path, events: list[Event]
) -> None:
    path = tmp_path / "iter_1.pth"
    torch.save({}, path)
    write_digest(path)
    check_on_disk(events, path, tmp_path, ("named", f"{path}.sha256"))
