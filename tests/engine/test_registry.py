"""The one list of stages: a row is all that a stage needs to be known everywhere."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from s4m_pipeline.artifacts.table_definitions import TABLES
from s4m_pipeline.artifacts.tables import read_table
from s4m_pipeline.data.scenes.scenes import generate_scenes
from s4m_pipeline.engine.registry import STAGES, stage_class, stage_named
from s4m_pipeline.workflow.pipeline import stages_of
from tests.engine.added_stage import ROW, TABLE, Measure, MeasureWorker
from tests.workshop import Workshop


@pytest.fixture
def added(monkeypatch: pytest.MonkeyPatch) -> None:
    """The stage's row and its table are there; nothing else is changed."""
    monkeypatch.setitem(STAGES, ROW.name, ROW)
    monkeypatch.setitem(TABLES, TABLE.name, TABLE)
    monkeypatch.setattr(MeasureWorker, "done", [])
    monkeypatch.setattr(MeasureWorker, "stops_at", None)


@pytest.fixture
def workshop(empty_workshop: Workshop, tmp_path: Path, added: None) -> Workshop:
    copy = empty_workshop.copy(tmp_path / "run")
    generate_scenes(copy.folder / "scenes", 36, 3, "labelled", size=32)
    return copy


def test_every_row_names_a_class_of_that_name() -> None:
    for name in STAGES:
        assert stage_class(name).name == name
        assert stage_named(name, 3).round == 3


def test_an_added_stage_has_a_command_with_help_and_example(added: None, s4m: Any) -> None:
    code, out, _ = s4m("--help")
    assert code == 0
    assert "measure" in out
    assert "Measure the labelled images." in out
    code, out, _ = s4m("measure", "--help")
    assert code == 0
    assert "s4m measure -c run.yaml" in out


def test_a_stage_that_was_not_added_has_no_command(s4m: Any) -> None:
    assert "measure" not in s4m("--help")[1]
    assert s4m("measure", "-c", "run.yaml")[0] == 2


def test_an_added_stage_runs_resumes_and_stands_in_status(workshop: Workshop, s4m: Any) -> None:
    def states() -> dict[str, str]:
        code, out, err = s4m("status", "-c", workshop.config, "--json")
        assert code == 0, err
        return {row["stage"]: row["state"] for row in json.loads(out)}

    assert states()["measure"] == "missing"
    MeasureWorker.stops_at = 1
    code, _, err = s4m("measure", "-c", workshop.config)
    assert code == 130
    assert "to resume from here" in err
    assert states()["measure"] == "unfinished"
    MeasureWorker.stops_at = None
    code, out, err = s4m("measure", "-c", workshop.config)
    assert code == 0, err
    assert MeasureWorker.done == [0, 1, 2]  # the first shard was not done again
    assert states()["measure"] == "fresh"
    run = workshop.run()
    folder = run.require(Measure())
    assert out.split() == [str(folder)]
    rows = read_table(folder, "sizes").to_pylist()
    assert [row["image_id"] for row in rows] == [image.id for image in run.images.labelled.images]
    assert {row["pixels"] for row in rows} == {32 * 32}


def test_an_added_stages_page_is_written(workshop: Workshop, s4m: Any, tmp_path: Path) -> None:
    out = tmp_path / "page.html"
    code, _, err = s4m("report", "-c", workshop.config, "--stage", "measure", "--out", out)
    assert code == 2
    assert "s4m measure" in err
    assert s4m("measure", "-c", workshop.config)[0] == 0
    code, _, err = s4m("report", "-c", workshop.config, "--stage", "measure", "--out", out)
    assert code == 0, err
    assert out.read_text() == f"{workshop.run().fingerprint(Measure())} 24"
    code, _, err = s4m("report", "-c", workshop.config, "--stage", "structure", "--out", out)
    assert code == 2
    assert "only of" in err


def test_an_added_stage_is_one_of_the_run_in_the_lists_order(workshop: Workshop, s4m: Any) -> None:
    assert [stage.name for stage in stages_of(workshop.run().config)][-1] == "measure"
    code, out, err = s4m("run", "-c", workshop.config, "--dry-run")
    assert code == 0, err
    assert out.splitlines()[-1].split()[0] == "measure"
