"""Artifacts as ``s4m artifacts`` lists them: finished, unfinished, damaged, of an old format."""

from __future__ import annotations

import json
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
    (path,) = store.work_dir.glob(f"{stage}/*/manifest.json")
    return path


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
