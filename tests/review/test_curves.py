"""A training's log as curves."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from s4m_pipeline.artifacts.manifest import Manifest, write_manifest
from s4m_pipeline.errors import ArtifactError
from s4m_pipeline.review.curves import read_log, smooth, thin, training_figures
from s4m_pipeline.review.report import stage_report
from tests.review.reading import read_page


def write_log(path: Path, extra: str = "") -> None:
    lines = []
    for i in range(10, 510, 10):
        parts = {"loss_mask": 100 / i, "loss_cls": 50 / i, "decode.d0.loss_mask": 1.0}
        losses = {"loss": 150 / i, **parts}
        lines.append({"iteration": i, "losses": losses, "learning_rate": 1e-4, "seconds": 1.5})
        if i % 100 == 0:
            figures = {"coco/segm_mAP": i / 1000, "coco/segm_mAP_50": i / 600}
            lines.append({"iteration": i, "validation": figures})
    path.write_text("\n".join(json.dumps(line) for line in lines) + "\n" + extra)


def test_log_is_read_by_key(tmp_path: Path) -> None:
    write_log(tmp_path / "log.jsonl", '{"iteration": 20, "loss": 7.0}\n{"iteration": 510, "lo')
    log = read_log(tmp_path / "log.jsonl")
    xs, ys = log.series("loss")
    assert xs == [float(i) for i in range(10, 510, 10)]
    assert ys[1] == 7.0  # the later line of iteration 20
    assert ys[2] == 150 / 30
    assert log.series("segm_mAP") == (
        [100.0, 200.0, 300.0, 400.0, 500.0],
        [0.1, 0.2, 0.3, 0.4, 0.5],
    )
    assert log.damaged == 1


def test_figures_of_a_log(tmp_path: Path) -> None:
    write_log(tmp_path / "log.jsonl", "[]\n")
    figures = {f.title: f for f in training_figures(read_log(tmp_path / "log.jsonl"))}
    assert list(figures) == ["Loss", "Parts of the loss", "Validation", "Learning rate"]
    assert figures["Validation"].svg.count("<circle") == 10
    assert "AP, 500: 50" in figures["Validation"].svg
    assert "d0" not in figures["Parts of the loss"].svg
    assert figures["Loss"].note == "1 line of the log could not be read."


def test_report_of_a_training(tmp_path: Path) -> None:
    write_log(tmp_path / "log.jsonl")
    metrics = {"segm": {"AP": 0.41, "AP50": 0.6, "per_class": {"<cat>": 0.5, "dog": -1}}}
    write_manifest(tmp_path, Manifest("train-teacher", "0" * 16, {}, {}, metrics=metrics))
    stage_report(tmp_path, {}, tmp_path / "p.html")
    page = read_page((tmp_path / "p.html").read_text(encoding="utf-8"))
    assert page.tables[0][1:] == [
        ["all classes, mask", "41.0", "60.0"],
        ["<cat>, mask", "50.0", "–"],
        ["dog, mask", "–", "–"],
    ]
    assert len(page.named("svg")) == 4
    assert "500" in page.texts


def test_report_takes_ap_from_the_log_where_the_manifest_has_none(tmp_path: Path) -> None:
    write_log(tmp_path / "log.jsonl")
    write_manifest(tmp_path, Manifest("train-student", "0" * 16, {}, {}))
    stage_report(tmp_path, {}, tmp_path / "p.html")
    page = read_page((tmp_path / "p.html").read_text(encoding="utf-8"))
    assert page.tables[0][1:] == [["all classes, mask", "50.0", "83.3"]]


def test_a_missing_log_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"log\.jsonl"):
        read_log(tmp_path / "log.jsonl")


def test_smoothing_and_thinning() -> None:
    assert smooth([1.0, 2.0, 6.0], 3) == [1.5, 3.0, 4.0]
    assert smooth([1.0, float("nan"), 3.0], 3) == [1.0, 2.0, 3.0]
    xs, ys = thin([float(i) for i in range(10)], [float(i) for i in range(10)], most=5)
    assert xs == ys == [0.5, 2.5, 4.5, 6.5, 8.5]
    assert thin([1.0], [2.0], most=5) == ([1.0], [2.0])


@pytest.mark.parametrize(
    "line",
    [
        '{"iteration": 1' + "0" * 400 + ', "loss": 1}',
        '{"iteration": 7, "loss": 1' + "0" * 400 + "}",
        '{"iteration": 7, "loss": 1, "loss": 2}',
        "[" * 9000,
    ],
)
def test_lines_that_hold_no_numbers_of_a_training_are_left_out(tmp_path, line):
    path = tmp_path / "log.jsonl"
    path.write_text(f'{{"iteration": 5, "loss": 2.5}}\n{line}\n')
    log = read_log(path)
    assert log.damaged == 1
    assert log.series("loss") == ([5.0], [2.5])
    assert training_figures(log)
