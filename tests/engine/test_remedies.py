"""Tests of the advice that damaged artifacts get: it makes them again, and no other."""

import shlex

import pytest

from s4m_pipeline.artifacts.manifest import read_manifest
from s4m_pipeline.stages.calibration.calibrate import Calibrate
from s4m_pipeline.stages.calibration.cross_fit import CrossFit
from s4m_pipeline.stages.calibration.held_out import HeldOut
from s4m_pipeline.stages.evaluate import Evaluate
from s4m_pipeline.stages.refine.stage import Refine
from s4m_pipeline.stages.train_student import TrainStudent
from s4m_pipeline.stages.train_teacher import TrainTeacher


@pytest.fixture
def done(finished, tmp_path):
    return finished.copy(tmp_path / "run")


def refused(result, *words):
    """Check that a damaged artifact was told of, in these words."""
    code, _, err = result
    assert code == 3, err
    assert [word for word in words if word not in err] == [], err


def cut_short(folder):
    entry = read_manifest(folder).files[0]
    (folder / entry.path).write_bytes(b"")


@pytest.mark.parametrize("stage", [Refine(), TrainStudent(), Evaluate("teacher")])
def test_run_names_the_command_that_makes_a_damaged_artifact_alone(done, s4m, stage):
    cut_short(done.run().folder(stage))
    kept = (done.run().folder(TrainTeacher()) / "manifest.json").read_bytes()
    call = s4m("run", "-c", done.config, "execution.workers=1")
    command = f"s4m {stage.command} -c {done.config} execution.workers=1 --force"
    refused(call, f"Make it again with: {command}")
    if stage.name != "train-student":
        assert s4m(*shlex.split(command)[1:])[0] == 0
        assert s4m("run", "-c", done.config)[0] == 0
    assert (done.run().folder(TrainTeacher()) / "manifest.json").read_bytes() == kept


@pytest.mark.parametrize(
    "stage", [Refine(round=2), TrainStudent(round=2), CrossFit(), Calibrate(), HeldOut(round=2)]
)
def test_what_no_command_makes_alone_is_removed_rather_than_forced(empty_workshop, stage):
    run = empty_workshop.run()
    advice = run.remedy(stage)
    assert "--force" not in advice
    assert f"Remove {run.folder(stage)}\n" in advice
    assert f"s4m {stage.command} -c RUN.yaml" in advice


def test_each_evaluations_command_makes_it_and_no_other(done, s4m):
    words = [
        {"of": "teacher"},
        {"averaged": False},
        {"split": "labelled", "metric": "coco"},
    ]
    stages = [Evaluate("student"), *(Evaluate(**some) for some in words)]
    for stage in stages:
        run = done.run()
        code, _, err = s4m(*shlex.split(stage.command), "-c", done.config)
        assert code == 0, err
        latest = run.store.latest(stage.name)
        assert latest == run.fingerprint(stage)


def test_a_damaged_input_of_an_input_is_told_as_such(done, s4m):
    (done.run().folder(TrainTeacher()) / "manifest.json").write_text("{")
    refused(s4m("refine", "-c", done.config), "train-teacher", "damaged", "s4m pseudo-label")
    call = s4m("pseudo-label", "-c", done.config)
    refused(call, f"Make it again with: s4m train-teacher -c {done.config} --force")
