"""A work folder of somebody else's: its links, pipes and devices lead to nothing."""

from __future__ import annotations

import json
import os
import threading
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from s4m_pipeline.artifacts import file_facts
from s4m_pipeline.artifacts.collecting import leftovers
from s4m_pipeline.artifacts.digest_beside import digest_file, is_whole_archive
from s4m_pipeline.artifacts.file_facts import FileFacts
from s4m_pipeline.artifacts.fingerprint import content_digest
from s4m_pipeline.artifacts.locks import held, is_held
from s4m_pipeline.artifacts.manifest import MANIFEST, read_manifest
from s4m_pipeline.artifacts.plain_files import MOST_BYTES, read_plain
from s4m_pipeline.artifacts.sealed import write_text
from s4m_pipeline.artifacts.shards import shards_done
from s4m_pipeline.artifacts.store import REQUEST, Store
from s4m_pipeline.data.formats.coco.writer import write_text as write_coco
from s4m_pipeline.engine.registry import STAGES
from s4m_pipeline.errors import ArtifactError
from s4m_pipeline.review.page import write_page

MARK = "a" * 16
WORDS = "words of somebody who has nothing to do with it"


@pytest.fixture
def canary(tmp_path: Path) -> Path:
    """A file outside the work folder, which has to stay as it is."""
    path = tmp_path / "elsewhere" / "canary.txt"
    path.parent.mkdir()
    path.write_text(WORDS)
    return path


@pytest.fixture
def store(tmp_path: Path) -> Store:
    work = tmp_path / "work"
    (work / "refine" / MARK).mkdir(parents=True)
    return Store(work)


def unharmed(canary: Path) -> bool:
    return canary.read_text() == WORDS and list(canary.parent.iterdir()) == [canary]


def in_time(function: Callable[[], Any]) -> Any:
    """What a function gives, unless it waits for ever."""
    given: list[Any] = []
    thread = threading.Thread(target=lambda: given.append(function()), daemon=True)
    thread.start()
    thread.join(20)
    assert given, "it waits"
    return given[0]


def test_a_lock_that_is_a_link_leaves_what_it_leads_to(store: Store, canary: Path) -> None:
    lock = store.work_dir / "refine" / f".{MARK}.lock"
    lock.symlink_to(canary)
    with pytest.raises(ArtifactError, match=r"\.lock is a link"), store.lock("refine", MARK):
        pass
    assert not store.is_being_made("refine", MARK)
    lock.unlink()
    os.link(canary, lock)  # another name of the same file, which nobody can tell
    with store.lock("refine", MARK):
        assert store.is_being_made("refine", MARK)
    assert canary.read_text() == WORDS


@pytest.mark.parametrize(
    "inside", ["", "request.json", "mmengine", "mmengine/iter_2.pth", "log.jsonl", "refined/a.part"]
)
def test_nothing_is_written_in_an_artifact_that_holds_a_link(
    inside: str, store: Store, canary: Path
) -> None:
    folder = store.folder("refine", MARK)
    link = folder / inside if inside else folder
    if not inside:
        folder.rmdir()
    link.parent.mkdir(exist_ok=True)
    link.symlink_to(canary if link.suffix else canary.parent)
    with pytest.raises(ArtifactError, match="is a link, and s4m makes none"):
        store.begin("refine", MARK, {}, {})
    assert unharmed(canary)


def test_nothing_is_written_in_an_artifact_that_holds_a_pipe(store: Store) -> None:
    os.mkfifo(store.folder("refine", MARK) / "log.jsonl")
    with pytest.raises(ArtifactError, match="is no plain file"):
        store.begin("refine", MARK, {}, {})


def test_a_replaced_artifact_is_not_moved_through_a_link(store: Store, canary: Path) -> None:
    (store.work_dir / "refine" / ".replaced").symlink_to(canary.parent)
    with pytest.raises(ArtifactError, match="is a link"):
        store.set_aside("refine", MARK)
    assert unharmed(canary)
    assert store.folder("refine", MARK).is_dir()


def test_unfinished_files_are_not_written_through_links(
    tmp_path: Path, canary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their names can be guessed: a work folder can hold one for each number of a process."""
    here, mine = tmp_path / "work", os.getpid()
    (here / "images").mkdir(parents=True)
    for name in (".latest.{}.partial", ".digests.{}.tmp", ".pictures.{}.tmp", ".a.json.{}.tmp"):
        (here / name.format(mine)).symlink_to(canary)
    for name in (".page.html.{}.partial", "page.html.partial"):
        (here / name.format(mine)).symlink_to(canary)
    write_text(here / "latest", "text")
    monkeypatch.setattr(file_facts, "YOUNG", -(10**18))  # what was just written counts as old
    content_digest(canary, FileFacts(here / ".digests.json"))
    FileFacts(here / ".pictures.json").of("kind", canary.parent, [canary.name], lambda _: 1)
    write_coco(here / "a.json", ["{}"])
    write_page(here / "page.html", "title", "summary")
    assert unharmed(canary)
    assert (here / "latest").read_text() == "text"
    assert (here / ".digests.json").is_file()


def a_pipe(path: Path) -> None:
    os.mkfifo(path)


def an_endless_device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def a_huge_file(path: Path) -> None:
    with path.open("wb") as stream:
        stream.truncate(1 << 40)


@pytest.mark.parametrize("put", [a_pipe, an_endless_device, a_huge_file])
def test_what_never_ends_is_not_read(
    put: Callable[[Path], None], store: Store, tmp_path: Path, canary: Path
) -> None:
    folder = store.folder("refine", MARK)
    (folder / "shards").mkdir()
    names = ["latest", ".digests.json", ".pictures.json", f".{MARK}.lock", "a.pth.sha256"]
    for path in (
        *(store.work_dir / "refine" / name for name in names),
        *(folder / name for name in (MANIFEST, REQUEST, "shards/all.json")),
    ):
        put(path)
    archive = store.work_dir / "refine" / "a.pth"
    with zipfile.ZipFile(archive, "w") as stream:
        stream.writestr("a", "b")
    assert digest_file(archive).name == "a.pth.sha256"

    def look() -> str:
        assert store.latest("refine") is None
        assert store.requested("refine", MARK) == {}
        assert not is_held(store.work_dir / "refine" / f".{MARK}.lock")
        assert not is_whole_archive(archive)
        with pytest.raises(ArtifactError):
            read_manifest(folder)
        content_digest(canary, FileFacts(store.work_dir / "refine" / ".digests.json"))
        FileFacts(store.work_dir / "refine" / ".pictures.json").of("a", tmp_path, ["b"], str)
        assert all(found.why_kept for found in leftovers(store, STAGES))
        return shards_done(folder)

    assert in_time(look) == "0 shards done"


def test_a_file_of_the_greatest_length_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_text(json.dumps([1]))
    assert read_plain(path) == b"[1]"
    assert MOST_BYTES > 1 << 24
    with held(tmp_path / "lock"):
        assert is_held(tmp_path / "lock")
