"""What tests share is made once, however many ask for it at a time."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.made_once import MadeOnce


def test_those_that_ask_at_once_get_one_folder_made_once(made_once: MadeOnce) -> None:
    made: list[Path] = []

    def make(folder: Path) -> None:
        made.append(folder)
        time.sleep(0.1)  # long enough for the others to ask meanwhile
        (folder / "result").write_text("made")

    with ThreadPoolExecutor(3) as pool:
        folders = set(pool.map(lambda _: made_once("asked-at-once", make), range(3)))
    assert len(made) == len(folders) == 1
    assert (folders.pop() / "result").read_text() == "made"


def test_what_failed_halfway_is_made_anew(made_once: MadeOnce) -> None:
    def fail(folder: Path) -> None:
        (folder / "half").touch()
        raise ValueError("no disk")

    with pytest.raises(ValueError, match="no disk"):
        made_once("failed-halfway", fail)
    folder = made_once("failed-halfway", lambda folder: (folder / "whole").touch())
    assert [path.name for path in folder.iterdir()] == ["whole"]
