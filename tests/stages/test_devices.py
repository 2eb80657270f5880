"""Tests of what a stage does about a device that is not there."""

import pytest
import torch

from s4m_pipeline.stages.evaluate import Evaluate
from s4m_pipeline.stages.pseudo_label import PseudoLabel
from s4m_pipeline.stages.train_teacher import TrainTeacher


@pytest.fixture(autouse=True)
def _no_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


@pytest.mark.parametrize(
    ("command", "stage"),
    [
        (("train-teacher",), TrainTeacher()),
        (("pseudo-label",), PseudoLabel()),
        (("evaluate", "--of", "teacher"), Evaluate("teacher")),
        (("run",), TrainTeacher()),
    ],
)
def test_forcing_on_a_device_that_is_not_there_loses_nothing(
    finished, tmp_path, s4m, command, stage
):
    copy = finished.copy(tmp_path / "run")
    manifest = copy.run().folder(stage) / "manifest.json"
    before = manifest.read_bytes()
    code, _, err = s4m(*command, "-c", copy.config, "device=cuda", "--force")
    assert (code, "no CUDA device" in err) == (2, True), err
    assert manifest.read_bytes() == before
    assert not list((copy.folder / "work").glob("*/.replaced"))


@pytest.mark.parametrize("command", [("run",), ("run", "--rounds", "2"), ("train-teacher",)])
def test_a_plan_refuses_a_device_that_is_not_there(finished, s4m, command):
    settings = ("teacher.iterations=77", "device=cuda")
    code, _, err = s4m(*command, "-c", finished.config, *settings, "--dry-run")
    assert (code, "no CUDA device" in err) == (2, True), err


def test_what_is_fresh_needs_no_device(finished, s4m):
    for more in ((), ("--dry-run",)):
        code, _, err = s4m("run", "-c", finished.config, "device=cuda", *more)
        assert code == 0, err


def test_another_metric_of_stored_detections_needs_no_device(finished, tmp_path, s4m):
    copy = finished.copy(tmp_path / "run")
    asked = ("evaluate", "--metric", "coco", "-c", copy.config, "device=cuda")
    assert s4m(*asked, "--dry-run")[0] == 0
    code, _, err = s4m(*asked, "--force")
    assert (code, "no CUDA device" in err) == (2, True), err
    assert s4m(*asked)[0] == 0
