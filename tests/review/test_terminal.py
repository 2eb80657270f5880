"""Tables in a terminal, wide and narrow, and where it is none."""

from __future__ import annotations

import io
import re
from typing import Any

import pytest
from rich.console import Console

from s4m_pipeline.review.ap_tables import ap_table, evaluation_tables, side_by_side
from s4m_pipeline.review.table import Table, is_figure
from s4m_pipeline.review.terminal import comparison_table, print_table, status_table

ROWS = [
    {"name": "teacher", "mask AP": 0.312, "label IoU": 0.71},
    {"name": "student, unrefined labels", "mask AP": 0.34},
    {"name": "student, refined labels [bold]", "mask AP": 0.381, "label IoU": 0.8123},
]


def shown(table: Table, width: int, terminal: bool) -> str:
    stream = io.StringIO()
    console = Console(
        file=stream,
        width=width,
        force_terminal=terminal,
        color_system="standard",
        legacy_windows=False,
        _environ={},
    )
    print_table(table, console)
    return stream.getvalue()


@pytest.mark.parametrize("width", [24, 40, 80, 200])
@pytest.mark.parametrize("terminal", [True, False])
def test_nothing_is_lost_at_any_width(width: int, terminal: bool) -> None:
    text = shown(comparison_table(ROWS, "What came out"), width, terminal)
    for figure in ("0.312", "0.340", "0.381", "0.710", "0.812", "teacher", "[bold]"):
        assert figure in text
    assert "…" not in text


@pytest.mark.parametrize("width", [24, 40, 80])
def test_lines_fit_a_terminal(width: int) -> None:
    text = re.sub(r"\x1b\[[0-9;]*m", "", shown(comparison_table(ROWS), width, True))
    assert max(len(line) for line in text.splitlines()) <= width


def test_plain_text_has_no_codes_and_one_line_a_row() -> None:
    text = shown(comparison_table(ROWS), 20, False)
    assert "\x1b" not in text
    lines = text.splitlines()
    assert len(lines) == 1 + len(ROWS)
    assert lines[3].split()[-2:] == ["0.381*", "0.812*"]
    assert lines[2].split()[-1] == "–"
    assert len({line.index("0.3") for line in lines[1:]}) == 1


def test_the_best_figures_are_marked_in_colour() -> None:
    text = shown(comparison_table(ROWS), 100, True)
    assert re.findall(r"\x1b\[1;32m *([\d.]+)", text) == ["0.381", "0.812"]


def test_status_rows() -> None:
    rows: list[dict[str, Any]] = [
        {"stage": "structure", "state": "fresh", "fingerprint": "0123456789abcdef", "why": ""},
        {
            "stage": "refine",
            "state": "stale",
            "fingerprint": None,
            "why": "refine.points changed from 3 to 5 since the artifact was made [x]",
        },
        {"stage": "evaluate", "state": "missing"},
    ]
    text = shown(status_table(rows), 100, True)
    assert "\x1b[32mfresh" in text
    assert "\x1b[33mstale" in text
    assert "\x1b[31mmissing" in text
    assert "[x]" in text
    bare = shown(status_table(rows), 30, False)
    assert len(bare.splitlines()) == 4
    assert "since the artifact was made [x]" in bare


def test_ap_in_all_shapes_of_metrics() -> None:
    nested = ap_table(
        {
            "segm": {"AP": 0.305, "AP50": 0.5, "per_class": {"cat": {"AP": 0.25}}},
            "bbox": {"AP": 0.4, "AP50": -1},
        }
    )
    assert list(nested.columns) == ["", "AP", "AP50"]
    assert [list(row) for row in nested.rows] == [
        ["all classes, mask", 30.5, 50.0],
        ["all classes, box", 40.0, None],
        ["cat, mask", 25.0, None],
    ]
    flat = ap_table({"segm_mAP": 0.2, "segm_mAP_s": 0.1, "count": 3, "bbox_AP": 0.3})
    assert list(flat.columns) == ["", "AP", "small"]
    assert [list(row) for row in flat.rows] == [
        ["all classes, mask", 20.0, 10.0],
        ["all classes, box", 30.0, None],
    ]
    assert not ap_table({}).rows
    from_log = ap_table({"coco/segm_mAP": 0.2, "coco/segm_mAP_l": -1.0, "AR": 0.5})
    assert [list(row) for row in from_log.rows] == [["all classes, mask", 20.0, None]]


def _measures(value: float) -> dict[str, Any]:
    names = ("AP", "AP50", "AP75", "AP_small", "AP_medium", "AR", "AR_small", "AR_medium")
    return {**dict.fromkeys(names, value), "AP_large": None, "AR_large": None}


def _evaluation(value: float) -> dict[str, Any]:
    kind = {**_measures(value), "per_class": {"car": {**_measures(value / 2), "instances": 3}}}
    return {
        "segm": kind,
        "bbox": kind,
        "boundary": kind,
        "engine": "pycocotools 2.0",
        "cityscapes": {"AP": value, "AP50": None, "per_class": {"car": {"AP": 0.5, "AP50": 1.0}}},
    }


def test_tables_of_an_evaluation() -> None:
    precision, recall, cityscapes = evaluation_tables(_evaluation(0.25))
    heads = ["", "AP", "AP50", "AP75", "small", "medium", "AR"]  # no figure of large ones
    assert list(precision.columns) == heads
    rows = [list(row) for row in precision.rows]
    assert rows[2] == ["all classes, boundary", *[25.0] * 6]
    assert rows[3] == ["car, mask", *[12.5] * 6]
    assert len(rows) == 6
    assert "pycocotools 2.0" in precision.note
    assert list(recall.rows[1]) == ["all classes, box", 25.0, 25.0, 25.0, None]
    assert [list(r) for r in cityscapes.rows] == [["all classes", 25.0, None], ["car", 50.0, 100.0]]
    assert [len(t.rows) for t in evaluation_tables({"segm": {"AP": 0.1}})] == [1]


def test_models_side_by_side() -> None:
    models = {"teacher": _evaluation(0.2), "student": _evaluation(0.3)}
    del models["teacher"]["cityscapes"]
    overall, classes = side_by_side(models)
    assert "large" not in overall.columns  # nobody has a figure there
    assert list(overall.columns)[-2:] == ["boundary AP", "Cityscapes AP"]
    assert [row[-1] for row in overall.rows] == [None, 30.0]
    assert overall.best_rows(1) == {1}
    assert [list(row) for row in classes.rows] == [["car", 10.0, 15.0]]
    only = {
        name: {"cityscapes": figures["cityscapes"]}
        for name, figures in {"a": _evaluation(0.1), "b": _evaluation(0.4)}.items()
    }
    overall, classes = side_by_side(only)
    assert list(overall.columns) == ["", "Cityscapes AP"]
    assert [list(row) for row in classes.rows] == [["car", 50.0, 50.0]]


def test_percent_columns_have_one_decimal() -> None:
    table = comparison_table([{"name": "a", "AP": 31.27, "IoU": 0.5}, {"name": "b", "AP": 31.31}])
    assert [table.text(row[1], 1) for row in table.rows] == ["31.3", "31.3"]
    assert table.best_rows(1) == set()
    assert table.text(table.rows[0][2], 2) == "0.500"


def test_what_counts_as_a_figure() -> None:
    for cell in (1, 0.5, "12.3 %", "0.31 ± 0.02", "-4", "1,234", "3 min"):
        assert is_figure(cell), cell
    for other in ("cat", "", "7 days ago", None, True, "0123456789abcdef"):
        assert not is_figure(other), other
