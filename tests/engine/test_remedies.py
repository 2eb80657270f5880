"""Tests of the advice that damaged artifacts get: it makes them again, and no other."""

import shlex
from pathlib import Path

import pytest

from s4m_pipeline.artifacts.manifest import read_manifest
from s4m_pipeline.artifacts.table_faults import damaged
from s4m_pipeline.stages.calibration.calibrate import Calibrate
from s4m_pipeline.stages.calibration.cross_fit import CrossFit
from s4m_pipeline.stages.calibration.held_out import HeldOut
from s4m_pipeline.stages.evaluate import Evaluate
from s4m_pipeline.stages.pseudo_label import PseudoLabel
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
def test_what_no_command_makes_alone_is_set_aside_rather_than_forced(
    empty_workshop, tmp_path, s4m, stage
):
    own = empty_workshop.copy(tmp_path / "it's a run")
    run = own.run()
    aside, again = run.remedy(stage).splitlines()
    assert again == f"and make it again with: s4m {stage.command} -c RUN.yaml"
    what, _, command = aside.partition(": ")
    assert what == "Set it aside with"
    folder = run.folder(stage)
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_text("{")
    (folder / "shard.parquet").write_bytes(b"whole")
    code, out, err = s4m(*shlex.split(command)[1:])
    assert code == 0, err
    assert not folder.exists()
    moved = Path(out.removesuffix("\n"))
    assert moved.parent == folder.parent / ".replaced"
    assert (moved / "shard.parquet").read_bytes() == b"whole"


@pytest.mark.parametrize("kind", ["photos", "empty", "other stage", "link", "linked stage"])
def test_what_is_no_artifact_is_not_set_aside(tmp_path, s4m, kind):
    name = "0123456789abcdef"
    folder = tmp_path / ("photos" if kind == "other stage" else "refine") / name
    if kind == "photos":
        folder = folder.with_name("photos")
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_text("{}")
    if kind == "empty":
        (folder / "manifest.json").unlink()
    if kind == "link":
        folder = folder.rename(tmp_path / "elsewhere")
        (tmp_path / "refine" / name).symlink_to(folder)
        folder = tmp_path / "refine" / name
    if kind == "linked stage":
        (tmp_path / "refine").rename(tmp_path / "elsewhere")
        (tmp_path / "refine").symlink_to(tmp_path / "elsewhere")
    code, out, err = s4m("artifacts", "set-aside", folder)
    assert (code, out) == (2, "")
    assert str(folder) in err
    assert folder.is_dir()


def test_what_another_process_makes_is_not_set_aside(empty_workshop, tmp_path, s4m):
    own = empty_workshop.copy(tmp_path / "run")
    store = own.run().store
    folder = store.begin("refine", "0123456789abcdef", {}, {})
    with store.lock("refine", folder.name):
        code, _, err = s4m("artifacts", "set-aside", folder)
    assert code == 1
    assert "is being made by another process" in err
    assert folder.is_dir()


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


def test_a_table_that_cannot_be_used_is_told_with_the_runs_own_command(done, s4m, monkeypatch):
    def fails(self, run, folder):
        fault = "a height of 0"
        raise damaged(done.run().folder(PseudoLabel()) / "predictions/00000.parquet", fault)

    monkeypatch.setattr(Refine, "make", fails)
    command = f"s4m pseudo-label -c {done.config} refine.points=2 --force"
    call = s4m("refine", "-c", done.config, "refine.points=2")
    refused(call, "damaged (a height of 0)", f"Make it again with: {command}")


def test_where_the_run_is_not_known_the_command_is_one_for_every_stage(tmp_path):
    folder = tmp_path / "it's" / "cross-fit" / "0123456789abcdef"  # which no command is named after
    error = damaged(folder / "predictions" / "00000.parquet", "a height of 0")
    words = shlex.split(str(error).splitlines()[1].partition(": ")[2])
    assert words == ["s4m", "artifacts", "set-aside", str(folder)]


def test_the_command_of_a_new_run_file_can_be_pasted(tmp_path, s4m):
    name = str(tmp_path / "my run's.yaml")
    code, out, _ = s4m("init", name)
    assert code == 0
    words = shlex.split(out.partition("then: ")[2])
    assert words == ["s4m", "run", "-c", name, "--dry-run"]
