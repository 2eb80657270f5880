"""``s4m label-quality --views``: where labels of several views lose against those of one."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from s4m_pipeline.artifacts.tables import read_table
from s4m_pipeline.engine.registry import stage_named
from s4m_pipeline.workflow.view_quality import ALL, AS_MANY, ONE, SCORES, views_against_one
from tests.workshop import Workshop

VIEWS = "pseudo_label.views=[image, flip]"
Call = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def compared(finished: Workshop) -> dict:
    return views_against_one(finished.run(VIEWS))


def scores_of(finished: Workshop, alone: bool) -> list[float]:
    run = finished.run(VIEWS)
    folder = run.folder(stage_named("held-out", alone=alone))
    return sorted(read_table(folder, "predictions", ["score"])["score"].to_pylist(), reverse=True)


def test_one_and_all_views_are_held_against_each_other_at_every_score(
    finished: Workshop, compared: dict
) -> None:
    rows = compared["rows"]
    assert [row["what"] for row in rows] == [ONE, ALL, *[ONE, ALL, AS_MANY] * len(SCORES)]
    assert [row["score"] for row in rows[:2]] == [None, None]
    one, several = scores_of(finished, True), scores_of(finished, False)
    for place, score in enumerate(SCORES):
        of_one, of_all, as_many = rows[2 + 3 * place : 5 + 3 * place]
        assert of_one["labels"] == sum(value > score for value in one)  # no mask is too small
        assert of_all["labels"] == sum(value > score for value in several)
        assert as_many["labels"] <= of_one["labels"]


def test_every_loss_is_said_and_nothing_else(compared: dict) -> None:
    rows, lost = compared["rows"], 0
    one = rows[0]
    for row in rows:
        if row["what"] == ONE:
            one = row
        elif one["labels"]:
            pairs = [(one[name], row[name] or 0) for name in ("precision", "recall")]
            lost += any(before is not None and after < before for before, after in pairs)
    assert len(compared["losses"]) == lost


def test_the_command_prints_them_and_refuses_what_cannot_be_compared(
    finished: Workshop, s4m: Call
) -> None:
    code, out, _ = s4m("label-quality", "-c", finished.config, "--views", VIEWS)
    assert code == 0
    assert "as many labels" in out
    assert "all views lose" in out
    code, out, _ = s4m("label-quality", "-c", finished.config, "--views", "--json", VIEWS)
    assert set(json.loads(out)) == {"rows", "losses"}
    code, _, err = s4m("label-quality", "-c", finished.config, "--views")
    assert code == 2
    assert "nothing to compare" in err
    code, _, err = s4m(
        "label-quality", "-c", finished.config, "--views", VIEWS, "data.validation=null"
    )
    assert code == 2
    assert "data.validation is missing" in err
