"""Facts of files are found once for each state of a file."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from s4m_pipeline.artifacts import file_facts
from s4m_pipeline.artifacts.file_facts import FileFacts
from s4m_pipeline.artifacts.fingerprint import image_set_digest

NAMES = ["a.jpg", "b.jpg", "gone.jpg"]


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(file_facts, "YOUNG", -(10**18))  # what was just written counts as old
    folder = tmp_path / "photos"
    folder.mkdir()
    for name in NAMES[:2]:
        (folder / name).write_bytes(b"1234")
    return folder


class Reader:
    """Reads files and remembers which."""

    def __init__(self) -> None:
        self.read: list[str] = []

    def __call__(self, path: Path) -> str:
        self.read.append(path.name)
        return path.read_bytes().decode()


def look(root: Path, facts: FileFacts | None = None) -> tuple[list[str], list[object]]:
    reader = Reader()
    facts = facts or FileFacts(root.parent / "work" / "facts.json")
    found = facts.of("text", root, NAMES, reader)
    return sorted(reader.read), found


def test_a_file_is_looked_at_once(root: Path) -> None:
    assert look(root) == (["a.jpg", "b.jpg"], ["1234", "1234", None])
    assert look(root) == ([], ["1234", "1234", None])


def test_a_change_of_the_same_size_is_noticed_even_where_the_time_is_put_back(root: Path) -> None:
    look(root)
    before = os.stat(root / "a.jpg")
    (root / "a.jpg").write_bytes(b"4321")
    os.utime(root / "a.jpg", ns=(before.st_atime_ns, before.st_mtime_ns))
    assert look(root) == (["a.jpg"], ["4321", "1234", None])


def test_what_is_young_is_looked_at_again(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    assert look(root)[0] == look(root)[0] == ["a.jpg", "b.jpg"]


@pytest.mark.parametrize(
    "content", ["", "{", "[]", "7", '{"text": 3}', '{"text": {"/r": {"a": 1}}}', "[" * 9000]
)
def test_another_files_content_is_no_fact(root: Path, content: str) -> None:
    facts = root.parent / "work" / "facts.json"
    look(root)
    facts.write_text(content)
    assert look(root) == (["a.jpg", "b.jpg"], ["1234", "1234", None])
    assert json.loads(facts.read_text())


def test_where_nothing_can_be_kept_it_is_found_all_the_same(root: Path) -> None:
    (root.parent / "file").write_text("")
    facts = FileFacts(root.parent / "file" / "facts.json")
    assert look(root, facts)[1] == ["1234", "1234", None]


def test_a_set_is_the_same_after_a_touch_and_another_after_a_change(root: Path) -> None:
    def digest() -> str:
        return image_set_digest(root, NAMES, FileFacts(root.parent / "facts.json"))

    first = digest()
    os.utime(root / "a.jpg")
    assert digest() == first
    (root / "a.jpg").write_bytes(b"4321")
    second = digest()
    assert second != first
    (root.parent / "facts.json").unlink()
    assert digest() == second == image_set_digest(root, NAMES)
    (root / "a.jpg").write_bytes(b"1234")
    assert digest() == first


def test_a_changed_byte_in_what_is_remembered_is_noticed(root: Path) -> None:
    look(root)
    stored = root.parent / "work" / "facts.json"
    text = stored.read_text()
    for at in range(0, len(text), 3):
        other = "2" if text[at] != "2" else "3"
        stored.write_text(text[:at] + other + text[at + 1 :])
        assert look(root)[1] == ["1234", "1234", None]
