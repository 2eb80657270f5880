"""Why an artifact is stale, in words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from s4m_pipeline.config import RunConfig
from s4m_pipeline.config_file import load_config
from s4m_pipeline.configs import model_config_digest
from s4m_pipeline.engine.staleness import describe_difference
from s4m_pipeline.stages.evaluate import Evaluate

ONE, OTHER = "12ba8c" + "0" * 58, "fdfd96" + "0" * 58
MARKS = ("0123456789abcdef", "fedcba9876543210")


@pytest.fixture
def config(tmp_path: Path) -> RunConfig:
    path = tmp_path / "run.yaml"
    path.write_text("work_dir: work\ndata: {labelled: {images: a, annotations: b.json}}\n")
    return load_config(path, ["student.model=mask2former_lite0"])


def _difference(
    config: RunConfig, part: str, before: Any, wanted: Any, stage: str = "evaluate"
) -> str:
    empty: dict[str, Any] = {"config": {}, "inputs": {}}
    return describe_difference(stage, config, {**empty, part: before}, {**empty, part: wanted})


@pytest.mark.parametrize("kind", ["labelled", "unlabelled", "validation"])
def test_images_that_changed_are_told_without_their_digests(config: RunConfig, kind: str) -> None:
    difference = _difference(config, "inputs", {kind: ONE}, {kind: OTHER})
    assert difference == f"the {kind} images changed"


@pytest.mark.parametrize(
    ("before", "wanted", "difference"),
    [
        ({"segmenter": ONE}, {"segmenter": OTHER}, "the segmenter's weights changed"),
        ({"segmenter": "random"}, {"segmenter": OTHER}, "segmenter: random -> fdfd96000000"),
        ({"checkpoint": ONE}, {"checkpoint": OTHER}, "the checkpoint changed"),
        ({}, {"weights": OTHER}, "weights: not set -> fdfd96000000"),
        (
            {"refined": MARKS[0]},
            {"refined": MARKS[1]},
            "refined: 0123456789ab -> fedcba987654",
        ),
    ],
)
def test_inputs_are_told_in_words_or_by_twelve_digits(
    config: RunConfig, before: Any, wanted: Any, difference: str
) -> None:
    assert _difference(config, "inputs", before, wanted) == difference


def test_a_model_is_told_by_name_where_it_is_known(config: RunConfig) -> None:
    new = {"student": {"model": model_config_digest("mask2former_lite0")}}
    former = {"student": {"model": model_config_digest("mask2former_demo")}}
    difference = _difference(config, "config", former, new)
    assert difference == "student.model: mask2former_demo -> mask2former_lite0"
    difference = _difference(config, "config", {"student": {"model": ONE}}, new)
    assert difference == "student.model: another content (mask2former_lite0)"


@pytest.mark.parametrize(("stage", "does"), [("evaluate", "counts"), ("calibrate", "chooses")])
@pytest.mark.parametrize("before", [{}, {"rule": 1}])
def test_another_rule_is_another_version_of_s4m(
    config: RunConfig, stage: str, does: str, before: Any
) -> None:
    difference = _difference(config, "config", before, {"rule": 2}, stage)
    assert difference == f"this version of s4m {does} differently"


def test_settings_are_told_as_the_run_file_has_them(config: RunConfig) -> None:
    before = {"refine": {"points": 3, "second_pass": False, "max_area_ratio": None}}
    wanted = {"refine": {"points": 2, "second_pass": True, "max_area_ratio": 4.0, "gate": "drop"}}
    assert _difference(config, "config", before, wanted).split("; ") == [
        "refine.gate: not set -> drop",
        "refine.max_area_ratio: null -> 4.0",
        "refine.points: 3 -> 2",
        "refine.second_pass: false -> true",
    ]


def test_nothing_is_told_of_what_is_the_same(config: RunConfig) -> None:
    assert _difference(config, "inputs", {"labelled": ONE}, {"labelled": ONE}) == ""


@pytest.mark.parametrize(
    ("stage", "title"),
    [
        (Evaluate("student"), "evaluate student"),
        (Evaluate("student", averaged=False), "evaluate student-last"),
        (Evaluate("student-2", averaged=False), "evaluate student-2-last"),
        (
            Evaluate("teacher", split="labelled", metric="coco"),
            "evaluate teacher on labelled (coco)",
        ),
    ],
)
def test_an_evaluation_is_called_as_in_the_table_of_all(stage: Evaluate, title: str) -> None:
    assert stage.title == title
