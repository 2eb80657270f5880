"""What ``s4m artifacts gc`` removes: artifacts of this work folder that nothing needs, no more."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from s4m_pipeline.artifacts.collecting import leftovers, remove
from s4m_pipeline.artifacts.fingerprint import fingerprint
from s4m_pipeline.artifacts.manifest import Manifest, file_entry
from s4m_pipeline.artifacts.sealed import write_sealed
from s4m_pipeline.artifacts.store import Store
from s4m_pipeline.engine.registry import STAGES

OLD, NEW, OTHER = "a" * 16, "b" * 16, "c" * 16


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "work")


def finish(
    store: Store, mark: str, stage: str = "refine", inputs: dict[str, str] | None = None
) -> Path:
    folder = store.begin(stage, mark, {}, inputs or {})
    (folder / "table").write_text("content")
    files = [file_entry(folder, folder / "table")]
    store.finish(folder, Manifest(stage, mark, {}, inputs or {}, files=files))
    return folder


def removable(store: Store) -> list[Path]:
    return [found.path for found in leftovers(store, STAGES) if not found.why_kept]


def remove_all(store: Store) -> None:
    for found in leftovers(store, STAGES):
        if not found.why_kept:
            remove(store, found)


def test_a_replaced_artifact_is_set_aside_and_removable(store: Store) -> None:
    folder = finish(store, OLD)
    store.set_aside("refine", OLD)
    assert not folder.exists()
    assert len(removable(store)) == 1
    remove_all(store)
    assert removable(store) == []
    assert not list((store.work_dir / "refine" / ".replaced").iterdir())


def test_what_latest_names_is_not_removable(store: Store) -> None:
    old, new = finish(store, OLD), finish(store, NEW)
    assert removable(store) == [old]
    remove_all(store)
    assert not old.exists()
    assert new.is_dir()


def test_removable_spares_what_kept_artifacts_were_made_of_and_what_is_at_work(
    store: Store,
) -> None:
    old, new = finish(store, OLD, "train-teacher"), finish(store, NEW, "train-teacher")
    finish(store, "d" * 16, "refine", {"teacher": OLD})
    assert removable(store) == []
    unfinished = store.begin("refine", "e" * 16, {}, {})
    with store.lock("refine", "e" * 16):
        assert removable(store) == []
    assert removable(store) == [unfinished]
    assert old.is_dir()
    assert new.is_dir()


def test_inputs_of_what_somebody_is_making_are_kept(store: Store) -> None:
    first = finish(store, OLD, "structure")
    teacher = finish(store, "d" * 16, "train-teacher", {"structure": OLD})
    finish(store, NEW, "structure")
    finish(store, "e" * 16, "train-teacher")
    store.begin("pseudo-label", OTHER, {}, {"teacher": "d" * 16})
    with store.lock("pseudo-label", OTHER):
        assert removable(store) == []
    assert removable(store) == [
        store.folder("pseudo-label", OTHER),
        first,
        teacher,
    ]


def test_where_a_pointer_is_lost_all_that_the_stage_finished_is_kept(store: Store) -> None:
    finish(store, OLD)
    finish(store, NEW)
    for text in ("", "b" * 15 + "c", "\udcff\x00"):
        (store.work_dir / "refine" / "latest").write_bytes(text.encode("utf-8", "surrogateescape"))
        assert removable(store) == []
    (store.work_dir / "refine" / "latest").unlink()
    assert removable(store) == []


def test_where_one_does_not_say_what_it_was_made_of_nothing_is_removed(store: Store) -> None:
    first = finish(store, OLD, "structure")
    finish(store, NEW, "structure")
    folder = finish(store, OTHER, "refine", {"structure": OLD})
    assert removable(store) == []
    text = (folder / "manifest.json").read_text()
    (folder / "manifest.json").write_text(text.replace(OLD, OLD[1:] + "b", 1))  # a changed byte
    assert removable(store) == []
    (folder / "manifest.json").write_text("{")
    assert removable(store) == []
    finish(store, NEW, "refine")
    assert first in removable(store)


def test_a_request_with_a_changed_byte_keeps_what_somebody_makes_of_it(store: Store) -> None:
    finish(store, OLD, "structure")
    finish(store, NEW, "structure")
    folder = store.begin("refine", OTHER, {}, {"structure": OLD})
    text = (folder / "request.json").read_text()
    (folder / "request.json").write_text(text.replace(OLD, OLD[1:] + "b", 1))
    with store.lock("refine", OTHER):
        assert removable(store) == []


def others(work: Path) -> list[Path]:
    """Folders that look like artifacts and are none of this work folder."""
    manifest = {"stage": "refine", "fingerprint": OLD}
    folders = {
        work / "photos" / OLD: manifest,
        work / "node_modules" / "package": {"name": "package"},
        work / "refine" / "0123456789abcdeg": manifest,
        work / "refine" / "my-backup": manifest,
        work / "refine" / OTHER: manifest,
        work / "refine" / ("e" * 16): {"stage": "structure", "fingerprint": "e" * 16},
        work / "refine" / ("f" * 16): {},
        work / "refine" / ".replaced" / "mine": manifest,
        work / "refine" / ".replaced" / f"{OTHER}-12": manifest,
        work / "structure" / ".replaced" / f"{OLD}-12": manifest,
    }
    for folder, content in folders.items():
        folder.mkdir(parents=True)
        (folder / "manifest.json").write_text(json.dumps(content))
        (folder / "diary.txt").write_text("mine")
    bare = work / "refine" / ("1" * 16)
    bare.mkdir()
    (bare / "diary.txt").write_text("mine")
    return [*folders, bare]


def test_nothing_is_removed_that_is_not_provably_ours(store: Store) -> None:
    old = finish(store, OLD)
    finish(store, NEW)
    folders = others(store.work_dir)
    assert removable(store) == [old]
    remove_all(store)
    assert not old.exists()
    for folder in folders:
        assert (folder / "diary.txt").read_text() == "mine"


def test_links_are_unlinked_and_never_followed(store: Store, tmp_path: Path) -> None:
    finish(store, NEW)
    elsewhere = Store(tmp_path / "elsewhere")
    target = finish(elsewhere, OLD)
    finish(elsewhere, "d" * 16, "structure")
    link = store.work_dir / "refine" / OLD
    link.symlink_to(target)
    (store.work_dir / "structure").symlink_to(elsewhere.work_dir / "structure")
    inner = finish(store, OTHER)
    (inner / "data").symlink_to(elsewhere.work_dir)
    finish(store, NEW)
    remove_all(store)
    assert not os.path.lexists(link)
    assert not inner.exists()
    assert (store.work_dir / "structure").is_symlink()
    assert (target / "table").read_text() == "content"


def test_an_unfinished_artifact_is_known_by_its_request_an_earlier_versions_too(
    store: Store,
) -> None:
    settings, inputs = {"score": 0.7}, {"teacher": OLD}
    mark = fingerprint("refine", settings, inputs)
    folder = store.begin("refine", mark, settings, inputs)
    request = json.loads((folder / "request.json").read_text())
    del request["fingerprint"]
    (folder / "request.json").write_text(json.dumps(request))
    assert removable(store) == [folder]


def test_an_artifact_that_somebody_begins_to_make_is_not_removed(store: Store) -> None:
    finish(store, OLD)
    finish(store, NEW)
    (found,) = leftovers(store, STAGES)
    with store.lock("refine", OLD), pytest.raises(Exception, match="another process"):
        remove(store, found)
    assert store.is_complete("refine", OLD)


def test_escape_sequences_do_not_reach_the_terminal(tmp_path: Path, s4m) -> None:
    work = tmp_path / "w\x1b[31mork"
    store = Store(work)
    finish(store, OLD)
    folder = finish(store, NEW)
    path = folder / "manifest.json"
    data = json.loads(path.read_text())
    data |= {"created": "\x1b]0;title\x07", "config": {"a": "\x1b[2J\x9b1m"}}
    data["files"][0]["path"] = "\x1b[2Jtable"
    write_sealed(path, data)
    calls = [
        ("list", work),
        ("gc", work),
        ("show", folder),
        ("verify", folder),
        ("diff", store.folder("refine", OLD), folder),
        ("gc", work, "--remove"),
        ("gc", work),
    ]
    for call in calls:
        _, out, err = s4m("artifacts", *call)
        assert out + err
        assert not set(out + err) & {"\x1b", "\x9b", "\x07"}, call
