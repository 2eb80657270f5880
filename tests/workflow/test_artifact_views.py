"""Artifacts as ``s4m artifacts`` lists them: finished, unfinished, damaged, of an old format."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from s4m_pipeline.artifacts.store import Store
from s4m_pipeline.workflow.artifact_views import list_rows
from tests.workshop import Workshop


@pytest.fixture
def store(finished: Workshop, tmp_path: Path) -> Store:
    return Store(finished.copy(tmp_path / "run").folder / "work")


def _states(store: Store) -> dict[str, str]:
    return {row["stage"]: row["state"] for row in list_rows(Store(store.work_dir))}


def _manifest(store: Store, stage: str) -> Path:
    return sorted(store.work_dir.glob(f"{stage}/*/manifest.json"))[0]


def test_whole_artifacts_are_finished(store: Store) -> None:
    assert set(_states(store).values()) == {"finished"}


def test_an_artifact_of_an_earlier_format_is_not_called_damaged(store: Store) -> None:
    path = _manifest(store, "refine")
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format_version": 1}))
    _manifest(store, "structure").write_text("{")
    _manifest(store, "train-student").unlink()
    states = _states(store)
    assert states["refine"] == "old format"
    assert states["structure"] == "damaged"
    assert states["pseudo-label"] == "finished"


def test_the_command_lists_it_as_such(store: Store, s4m) -> None:
    path = _manifest(store, "refine")
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format_version": 1}))
    code, out, _ = s4m("artifacts", "list", store.work_dir)
    assert code == 0
    (line,) = (line for line in out.splitlines() if " refine " in line)
    assert "old format" in line


@pytest.mark.parametrize("command", ["show", "verify"])
def test_the_command_that_makes_it_anew_is_one_that_is_there(store: Store, s4m, command) -> None:
    path = _manifest(store, "evaluate" if command == "show" else "refine")
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format_version": 1}))
    folder = path.parent.rename(path.parent.with_name("0" * 16))
    other = store.work_dir / "cross-fit" / folder.name
    other.parent.mkdir()
    folder.rename(other)
    code, _, err = s4m("artifacts", command, other)
    assert code == 3
    assert "format version 1" in err
    assert "s4m calibrate -c RUN.yaml" in err  # what makes a cross-fit


def test_the_latest_of_each_round_and_evaluation_is_marked(tmp_path: Path, s4m) -> None:
    store = Store(tmp_path)
    marked = set()
    for number, pointer in enumerate(["", "", "round-2", "teacher-validation", "round-2"]):
        folder = store.begin("refine", f"{number:016x}", {}, {})
        store.point_latest("refine", folder.name, pointer)
        os.utime(folder, (number, number))
        marked = {name for name in marked if name[1] != pointer} | {(folder.name, pointer)}
    # an artifact without a pointer of its own is marked by the one of the stage, made last
    latest = {name for name, pointer in marked if pointer}
    code, out, _ = s4m("artifacts", "list", tmp_path)
    assert code == 0
    assert {line.split()[2] for line in out.splitlines() if line.startswith("*")} == latest
    rows = json.loads(s4m("artifacts", "list", tmp_path, "--json")[1])
    assert {row["fingerprint"] for row in rows if row["latest"]} == latest
