"""Folders that nobody may write to: what needs no writing works, all else names the folder."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import pytest

from tests.faults.forking import Ended, forked
from tests.faults.subject import (
    SETTINGS,
    STAGES,
    command,
    make,
    note,
    result,
    skip_unless_short,
    stage_of,
    without,
)
from tests.file_systems import read_only_folder
from tests.workshop import Workshop


def _half_made(copy: Workshop, name: str) -> Path:
    """Make a part of a stage; gives the artifact's folder."""
    folder = copy.run(*SETTINGS.get(name, ())).folder(stage_of(name))
    assert forked(partial(make, copy, name), folder, at=8).happened
    assert folder.is_dir()
    return folder


PLACES: dict[str, Callable[[Workshop, str], Path]] = {
    "work folder": lambda copy, name: copy.folder / "work",
    "stage's folder": lambda copy, name: copy.folder / "work" / name,
    "half-made artifact's folder": _half_made,
}


def _is_told(ended: Ended, folder: Path) -> None:
    error = ended.told[ended.told.index("error: ") :].splitlines()
    assert "Traceback" not in ended.told
    assert ended.code in (1, 2), ended.told
    assert error[0].startswith(f"error: {folder}"), error
    assert "Read-only file system" in error[0] or "Permission denied" in error[0]
    assert "work_dir" in error[1] or "needs the right to write" in error[1]
    assert ended.left == []


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("name", STAGES)
def test_what_cannot_be_written_is_refused_and_made_later(
    whole: Workshop, tmp_path: Path, name: str, place: str
) -> None:
    skip_unless_short(name)
    straight = without(whole, name, tmp_path / "straight")
    make(straight, name)
    expected = result(straight, name)
    copy = without(whole, name, tmp_path / "copy")
    folder = PLACES[place](copy, name)
    with read_only_folder(folder):
        _is_told(forked(partial(command, copy, name), copy.folder / "work"), folder)
    make(copy, name)
    assert result(copy, name) == expected
    note(name, "a read-only folder to write to", 1)


@pytest.mark.parametrize("name", STAGES)
def test_images_and_inputs_may_be_read_only(whole: Workshop, tmp_path: Path, name: str) -> None:
    skip_unless_short(name)
    straight = without(whole, name, tmp_path / "straight")
    make(straight, name)
    copy = without(whole, name, tmp_path / "copy")
    others = [path for path in (copy.folder / "work").iterdir() if path.is_dir()]
    closed = [copy.folder / "scenes", *(path for path in others if path.name != name)]
    with ExitStack() as stack:
        for folder in closed:
            stack.enter_context(read_only_folder(folder))
        ended = forked(partial(command, copy, name), copy.folder / "work")
        assert ended.code == 0, ended.told
        assert result(copy, name) == result(straight, name)
    note(name, "read-only images and inputs", 1)
