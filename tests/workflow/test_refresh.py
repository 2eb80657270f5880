"""Refreshes: labels made anew inside one training, their order, their artifacts, and the seams."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

from s4m_pipeline.artifacts.collecting import leftovers
from s4m_pipeline.artifacts.manifest import read_manifest
from s4m_pipeline.artifacts.training_files import CHECKPOINT
from s4m_pipeline.engine.perform import _require_manifests, freshness, perform
from s4m_pipeline.engine.registry import STAGES
from s4m_pipeline.engine.run import Run
from s4m_pipeline.engine.stage import Stage
from s4m_pipeline.errors import UsageError
from s4m_pipeline.labels import warnings as label_warnings
from s4m_pipeline.metrics.average_precision import coco_ap
from s4m_pipeline.stages import prediction_task, pseudo_label, teachers
from s4m_pipeline.stages.calibration import held_out
from s4m_pipeline.stages.calibration.held_out import HeldOut
from s4m_pipeline.stages.comparison import compare
from s4m_pipeline.stages.comparison.stage import CompareLabels
from s4m_pipeline.stages.evaluate import Evaluate
from s4m_pipeline.stages.pseudo_label import PseudoLabel
from s4m_pipeline.stages.refine.stage import Refine
from s4m_pipeline.stages.student_training import labels_of
from s4m_pipeline.stages.train_student import TrainStudent
from s4m_pipeline.stages.train_teacher import TrainTeacher
from s4m_pipeline.workflow.pipeline import run_all, stages_of, stages_of_rounds, status
from s4m_pipeline.workflow.rounds import planned_stages, refresh_costs
from tests.models.stopping import weights
from tests.workshop import Workshop

SIX = ("student.iterations=6", "pseudo_label.score=0.02", "student.validation_interval=2")
SETTINGS = (*SIX, "student.refresh=2", "student.burn_in=3")
"""Refreshes at iterations 3 and 5 of 6."""


@pytest.fixture(scope="module")
def refreshed(finished, workshop_once) -> Workshop:
    """A run with two refreshes."""
    return workshop_once("refreshed", finished, lambda own: run_all(own.run(*SETTINGS)))


def at(kind: type[Stage], refresh: int = 0) -> Stage:
    return kind(refresh=refresh)


def metrics(run: Run, stage: Stage) -> dict:
    return read_manifest(run.folder(stage)).metrics


def assert_same_weights(first: Path, second: Path) -> None:
    one, other = weights(first / CHECKPOINT), weights(second / CHECKPOINT)
    assert one.keys() == other.keys()
    assert all(torch.equal(value, other[name]) for name, value in one.items())


def test_the_stages_come_in_the_order_of_their_inputs(finished):
    run = finished.run(*SETTINGS)
    titles = [stage.title for stage in stages_of(run.config)]
    assert titles == [
        "structure", "train-teacher", "pseudo-label", "refine", "train-student refresh-1",
        "pseudo-label refresh-1", "refine refresh-1", "held-out refresh-1",
        "evaluate student-refresh-1", "held-out", "compare-labels refresh-1",
        "train-student refresh-2", "pseudo-label refresh-2", "refine refresh-2",
        "held-out refresh-2", "evaluate student-refresh-2", "compare-labels refresh-2",
        "train-student", "evaluate teacher", "evaluate student",
    ]  # fmt: skip


def test_each_refresh_is_made_of_the_leg_before_and_has_its_lineage(refreshed):
    run = refreshed.run(*SETTINGS)

    def inputs(stage: Stage) -> dict[str, str]:
        return read_manifest(run.folder(stage)).inputs

    leg = run.fingerprint(at(TrainStudent, 1))
    assert inputs(at(PseudoLabel))["teacher"] == run.fingerprint(TrainTeacher())
    assert inputs(at(PseudoLabel, 1))["teacher"] == leg
    assert inputs(at(Refine, 1))["predictions"] == run.fingerprint(at(PseudoLabel, 1))
    for refresh, before in ((2, 1), (0, 2)):
        found = inputs(at(TrainStudent, refresh))
        assert found["before"] == run.fingerprint(at(TrainStudent, before))
        assert found["refined"] == run.fingerprint(at(Refine, before))
        assert found["compared"] == run.fingerprint(at(CompareLabels, before))
        assert "teacher" not in found
    assert inputs(at(TrainStudent, 1))["refined"] == run.fingerprint(at(Refine))
    contents = {read_manifest(run.folder(at(Refine, n))).content for n in (0, 1, 2)}
    assert len(contents) == 3
    assert metrics(run, at(TrainStudent))["losses"]
    log = (run.folder(at(TrainStudent)) / "log.jsonl").read_text().splitlines()
    assert [line["iteration"] for line in map(json.loads, log)] == [2, 3, 4, 5, 6, 6]


@pytest.mark.parametrize("keep", ["last", "best"])
def test_refreshes_that_change_no_label_change_no_bit(finished, tmp_path, monkeypatch, keep):
    """Labels of the teacher at each refresh, which are those of the beginning, and are taken."""
    own = finished.copy(tmp_path / "run")
    for module in (teachers, pseudo_label, held_out, prediction_task):
        monkeypatch.setattr(module, "labeller", lambda *_: TrainTeacher())
    settings = (f"student.keep={keep}", "student.workers=1")
    plain, cut = own.run(*SIX, *settings), own.run(*SETTINGS, *settings)
    run_all(plain)
    run_all(cut)
    for refresh in (1, 2):
        found = metrics(cut, at(CompareLabels, refresh))
        count = read_manifest(cut.folder(at(Refine))).counts["instances"]
        if found["taken"]:
            assert found["labels_of"] == refresh
        assert found["drift"] == {
            "images": found["drift"]["images"], "stayed": count, "changed_class": 0, "came": 0,
            "went": 0, "mean_iou": 1.0,
        }  # fmt: skip
    student = TrainStudent()
    assert plain.fingerprint(student) != cut.fingerprint(student)
    assert_same_weights(plain.folder(student), cut.folder(student))
    assert metrics(plain, student).get("kept") == metrics(cut, student).get("kept")


def test_labels_that_changed_change_the_student(refreshed):
    run, plain = refreshed.run(*SETTINGS), refreshed.run(*SIX)
    assert freshness(run, TrainStudent()).state == "fresh"
    assert metrics(run, at(CompareLabels, 1))["drift"]["mean_iou"] != 1.0
    assert plain.fingerprint(TrainStudent()) != run.fingerprint(TrainStudent())


def test_ap_of_the_averaged_weights_and_label_quality_are_told_and_kept(
    refreshed, tmp_path, monkeypatch
):
    run = refreshed.copy(tmp_path / "run").run(*SETTINGS)
    said: list[str] = []
    monkeypatch.setattr(run.reporter, "say", said.append)
    for refresh in (1, 2):
        found = metrics(run, at(CompareLabels, refresh))
        stage = Evaluate("student", refresh=refresh)
        detections = json.loads((run.folder(stage) / "detections.json").read_text())
        assert found["AP"] == pytest.approx(
            coco_ap(run.images.validation, detections)["segm"]["AP"]
        )
        quality = metrics(run, at(HeldOut, refresh))
        assert found["held_out"] == quality["labels"]
        assert found["now"]["quality"] == quality["quality"]
        assert (
            found["now"]["count"]
            == read_manifest(run.folder(at(Refine, refresh))).counts["instances"]
        )
    perform(run, at(CompareLabels, 1), force=True)
    told = " ".join(said)
    for word in ("label quality on held-out labels", "mask AP", "stayed", "came", "went"):
        assert word in told


def changed(run: Run, before: dict[str, str]) -> list[str]:
    now = {row["stage"]: row["state"] for row in status(run)}
    return [title for title, state in now.items() if state != before[title]]


def test_what_follows_a_refresh_that_was_made_again_is_stale_and_nothing_before(
    refreshed, tmp_path, s4m, monkeypatch
):
    own = refreshed.copy(tmp_path / "run")
    before = {row["stage"]: row["state"] for row in status(own.run(*SETTINGS))}
    assert set(before.values()) == {"fresh"}
    again = ("refine", "-c", own.config, *SETTINGS, "--refresh", "1", "--force")
    code, out, err = s4m(*again)
    assert code == 0, err
    assert str(own.run(*SETTINGS).folder(at(Refine, 1))) in out
    assert changed(own.run(*SETTINGS), before) == [], "the same bytes are no change"
    with monkeypatch.context() as patch:
        patch.setattr(Refine, "policy", lambda *_: None)  # as if the segmenter drew other masks
        assert s4m(*again)[0] == 0
    titles = list(before)
    follow = titles[titles.index("compare-labels refresh-1") :]
    assert changed(own.run(*SETTINGS), before) == [t for t in follow if t != "evaluate teacher"]
    code, _, err = s4m("train-student", "-c", own.config, *SETTINGS, "--refresh", "2")
    assert code == 3
    assert "s4m compare-labels --refresh 1" in err


def test_another_length_makes_all_legs_anew_and_keeps_the_first_labels(refreshed):
    run = refreshed.run(*SETTINGS, "student.iterations=7")
    states = {row["stage"]: row["state"] for row in status(run)}
    for title in ("structure", "train-teacher", "pseudo-label", "refine", "held-out"):
        assert states[title] == "fresh"
    stale = {title for title, state in states.items() if state == "stale"}
    assert stale == {
        f"{kind}refresh-{n}" for n in (1, 2)
        for kind in ("train-student ", "pseudo-label ", "refine ", "held-out ", "evaluate student-",
                     "compare-labels ")
    } | {"train-student", "evaluate student"}  # fmt: skip


def test_a_later_refresh_changes_nothing_before_it(refreshed):
    """The first leg ends at the burn-in, whatever comes after."""
    run = refreshed.run(*SIX, "student.refresh=1", "student.burn_in=3")
    states = {row["stage"]: row["state"] for row in status(run)}
    assert states["refine refresh-1"] == states["compare-labels refresh-1"] == "fresh"
    assert states["train-student refresh-2"] == "stale"
    why = {row["stage"]: row["why"] for row in status(run)}["train-student refresh-2"]
    assert "ends_at: 5 -> 4" in why
    off = {row["stage"]: row["state"] for row in status(refreshed.run(*SIX))}
    assert not any("refresh" in title for title in off)


def test_new_thresholds_make_what_follows_the_first_labels_stale(refreshed, tmp_path, s4m):
    own = refreshed.copy(tmp_path / "run")
    settings = (*SETTINGS, "refine.min_score=0.02")
    run_all(own.run(*settings), stages_of(own.run(*settings).config)[:4])
    other = (*settings, "pseudo_label.score=0.03")
    code, _, err = s4m("rethreshold", "-c", own.config, *other)
    assert code == 0, err
    states = {row["stage"]: row["state"] for row in status(own.run(*other))}
    assert states["pseudo-label"] == states["refine"] == "fresh"
    assert states["train-student refresh-1"] == states["refine refresh-1"] == "stale"


def test_nothing_of_refreshes_is_removable(refreshed):
    run = refreshed.run(*SETTINGS)
    removable = {found.fingerprint for found in leftovers(run.store, STAGES)}
    for stage in stages_of(run.config):
        assert run.fingerprint(stage) not in removable, stage.title


def test_refreshes_of_later_rounds_have_names_of_their_own(finished):
    config = finished.run(*SETTINGS).config
    titles = [stage.title for stage in stages_of_rounds(config, 2)]
    assert len(titles) == len(set(titles))
    place = titles.index
    order = (
        "train-student", "pseudo-label round-2", "refine round-2",
        "train-student round-2 refresh-1", "pseudo-label round-2 refresh-1",
        "compare-labels round-2 refresh-1", "train-student round-2", "evaluate student-2",
    )  # fmt: skip
    assert sorted(order, key=place) == list(order)
    planned = [stage.title for stage in planned_stages(config, 2)]
    assert len(planned) == len(set(planned))
    stage = Evaluate("student", round=2, refresh=1)
    assert stage.upstream(config) == {"student-2-refresh-1": TrainStudent(round=2, refresh=1)}
    assert PseudoLabel(round=2).upstream(config) == {"teacher": TrainStudent()}


def test_every_part_has_a_command(refreshed, tmp_path, s4m):
    config, run = refreshed.config, refreshed.run(*SETTINGS)
    for stage in stages_of(run.config):
        words = stage.command.split()
        code, out, err = s4m(*words, "-c", config, *SETTINGS)
        assert code == 0, (words, err)
        if stage.name != "evaluate":
            assert str(run.folder(stage)) in out
    code, out, _ = s4m("evaluate", "-c", config, *SETTINGS, "--of", "student-refresh-1", "--json")
    assert json.loads(out) == metrics(run, Evaluate("student", refresh=1))
    page = tmp_path / "page.html"
    options = ("--stage", "refine", "--refresh", 2, "--out", page, "--limit", 2)
    code, _, err = s4m("report", "-c", config, *SETTINGS, *options)
    assert code == 0, err
    assert run.fingerprint(at(Refine, 2)) in page.read_text()
    truth = refreshed.folder / "scenes" / "unlabelled.json"
    options = ("--annotations", truth, "--refresh", 1, "--json")
    code, out, err = s4m("label-quality", "-c", config, *SETTINGS, *options)
    assert code == 0, err
    found = read_manifest(run.folder(at(Refine, 1))).counts["instances"]
    assert json.loads(out)["refined"]["labels"] == found


@pytest.mark.parametrize(
    ("words", "what"),
    [
        (("pseudo-label", "--refresh", "3"), "which makes 2 of them, the last at iteration 5 of 6"),
        (("report", "--refresh", "3"), "there is no refresh 3"),
        (("evaluate", "--of", "student-refresh-9"), "there is no refresh 9"),
        (("compare-labels",), "give --refresh"),
        (("report", "--refresh", "1", "--stage", "train-teacher"), "no train-teacher of a refresh"),
        (("refine", "--refresh", "1", "student.refresh=0"), "student.refresh is 0"),
    ],
)
def test_a_refresh_that_there_is_not_is_wrong_use(refreshed, s4m, words, what):
    command, *rest = words
    code, _, err = s4m(command, "-c", refreshed.config, *SETTINGS, *rest)
    assert code == 2, err
    assert what in err
    with pytest.raises(UsageError):
        at(TrainStudent, 3).settings(refreshed.run(*SETTINGS).config)


def test_train_student_makes_its_first_part_and_names_what_is_missing(finished, tmp_path, s4m):
    own = finished.copy(tmp_path / "run")
    settings = (*SETTINGS, "pseudo_label.score=0.05")
    code, _, err = s4m("train-student", "-c", own.config, *settings)
    assert code == 2
    assert "s4m refine --refresh 1 -c" in err
    run = own.run(*settings)
    states = {row["stage"]: row["state"] for row in status(run)}
    assert states["train-student refresh-1"] == "fresh"
    assert states["pseudo-label refresh-1"] == "missing"
    why = {row["stage"]: row["why"] for row in status(run)}["train-student"]
    assert "student.iterations: 4 -> 6" in why, "it is compared with the last student, not a leg"
    shutil.rmtree(run.folder(at(TrainStudent, 1)).parent)
    run_all(own.run(*settings), [at(TrainStudent, 1)])
    states = {row["stage"]: row["state"] for row in status(own.run(*settings))}
    assert states["train-student"] == "missing", "one leg of it is no student"
    code, _, err = s4m("evaluate", "-c", own.config, *settings)
    assert code == 2
    assert "train-student has not been made yet" in err


def test_a_plan_has_each_refreshs_images_and_each_legs_iterations(finished, s4m):
    code, out, err = s4m("run", "-c", finished.config, *SETTINGS, "--dry-run")
    assert code == 0, err
    steps = {row.split()[0:2][-1]: row.split() for row in out.splitlines() if "train-stu" in row}
    assert "3" in steps["refresh-1"]
    assert "2" in steps["refresh-2"]
    assert "2 refreshes, each a pass of the student and of the segmenter over 18 images: 36" in out
    assert "student.refresh" not in err


def test_labels_that_are_not_taken_leave_the_training_as_it_is(refreshed, tmp_path, monkeypatch):
    """The manifests say so, a warning too, and the next refresh is compared with those taken."""
    own = refreshed.copy(tmp_path / "run")
    run, plain = own.run(*SETTINGS), own.run(*SIX)
    warned: list[str] = []
    monkeypatch.setattr(run.reporter, "warn", warned.append)
    monkeypatch.setattr(compare, "fault", lambda *_: "they are worse")
    perform(run, at(CompareLabels, 1), force=True)
    (warning,) = warned
    assert "labels of refresh-1 are not taken: they are worse" in warning
    assert "the round's first labels" in warning
    found = metrics(run, at(CompareLabels, 1))
    assert (found["taken"], found["why_not"], found["labels_of"]) == (False, "they are worse", 0)
    run_all(run)
    run_all(plain)
    for leg in (2, 0):
        assert metrics(run, at(TrainStudent, leg))["labels_of_refresh"] == 0
    first = metrics(run, HeldOut())["quality"]
    assert metrics(run, at(CompareLabels, 2))["before"] == {
        "labels": 0,
        "count": read_manifest(run.folder(Refine())).counts["instances"],
        "quality": first,
    }
    assert_same_weights(plain.folder(TrainStudent()), run.folder(TrainStudent()))


def test_without_validation_images_only_the_number_is_guarded_and_that_is_said(
    refreshed, tmp_path, monkeypatch
):
    run = refreshed.copy(tmp_path / "run").run(*SETTINGS)
    run.config.data.validation = None
    titles = [stage.title for stage in stages_of(run.config)]
    assert not any("held-out" in title or "evaluate" in title for title in titles)
    said: list[str] = []
    monkeypatch.setattr(run.reporter, "say", said.append)
    found = perform(run, at(CompareLabels, 1)).metrics
    assert found["now"]["quality"] is None
    assert "AP" not in found
    assert any("only the number of labels is guarded" in line for line in said)


def test_hundreds_of_refreshes_are_no_deeper_than_one(finished):
    """A chain of inputs of eight hundred stages."""
    run = finished.run("student.iterations=200", "student.refresh=1", "pseudo_label.score=0.02")
    assert run.fingerprint(TrainStudent())
    assert freshness(run, TrainStudent()).state == "stale"
    assert len(stages_of(run.config)) == 8 + 199 * 6


def test_each_input_of_many_refreshes_is_looked_at_once(refreshed, monkeypatch):
    """Before a stage's work; the ways to the first leg are five times as many with each refresh."""
    run = refreshed.run(*SETTINGS, "student.iterations=200", "student.refresh=1")
    asked: list[str] = []
    upstream = TrainStudent.upstream

    def counted(self, config):
        asked.append(self.title)
        assert len(asked) < 2000
        return upstream(self, config)

    assert run.fingerprint(TrainStudent())
    monkeypatch.setattr(TrainStudent, "upstream", counted)
    _require_manifests(run, TrainStudent())
    assert len(asked) == len(set(asked)) == 1 + len(run.config.student.refreshes)


def test_what_to_do_about_labels_names_the_refresh_they_are_of(refreshed, monkeypatch):
    """Thresholds alone make the first labels anew, not those of a student that learned of them."""
    run = refreshed.run(*SETTINGS)
    warned: list[str] = []
    monkeypatch.setattr(run.reporter, "warn", warned.append)
    monkeypatch.setattr(label_warnings, "FAR", 1.0)
    for refresh in (0, 2):
        folder = run.folder(at(Refine, refresh))
        label_warnings.check_labels(run, folder, "train-student", 1, refresh)
    first, later = [text for text in warned if "s4m report" in text]
    assert "s4m report -c RUN.yaml" in first
    assert "s4m rethreshold -c RUN.yaml pseudo_label.thresholds=rate" in first
    assert "s4m report --refresh 2 -c RUN.yaml" in later
    assert "rethreshold" not in later
    assert "s4m run -c RUN.yaml pseudo_label.thresholds=rate" in later


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ((), "each a pass of the student and of the segmenter over 18 images: 36 images more"),
        (("pseudo_label.views=[image,flip]", "pseudo_label.teachers=[cross-fit]"),
         "each up to 6 passes of networks and one of the segmenter over 18 images"),
        (("refine.policy=none", "student.structure_weight=0"),
         "each a pass of the student over 18 images"),
    ],
)  # fmt: skip
def test_the_costs_of_refreshes_are_those_of_all_that_labels(finished, settings, told):
    """Two views of the student and of two teachers are six passes; without prompts there is none
    of the segmenter."""
    costs = refresh_costs(finished.run(*SETTINGS, *settings), 1)
    assert told in costs
    assert costs.endswith("; each measures on 4 images")


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        (("student.burn_in=4",), "student.burn_in is 4, but student.refresh is 0"),
        (("student.refresh=6",), "the first would be at iteration 6 of 6"),
        (("student.refresh=2", "student.burn_in=6"), "the first would be at iteration 6 of 6"),
    ],
)
def test_settings_that_make_no_refresh_are_told(finished, monkeypatch, settings, told):
    run = finished.run("student.iterations=6", *settings)
    warned: list[str] = []
    monkeypatch.setattr(run.reporter, "warn", warned.append)
    TrainStudent().check(run)
    assert any(told in text for text in warned)
    assert run.config.student.refreshes == []


def test_figures_that_are_nothing_are_told(refreshed, monkeypatch):
    """A precision of 0 is the one to be told."""
    run = refreshed.run(*SETTINGS)
    said: list[str] = []
    monkeypatch.setattr(run.reporter, "say", said.append)
    found = metrics(run, at(CompareLabels, 1))
    found["held_out"] = {"precision": 0.0, "recall": 0.0, "mean_iou": None}
    compare._tell(run, at(CompareLabels, 1), found)
    assert "(precision 0.000, recall 0.000, mask AP" in said[-1]


def test_after_a_refusal_the_training_goes_on_with_the_labels_taken_last(
    refreshed, tmp_path, monkeypatch
):
    """Those of refresh 1, not the round's first ones."""
    run = refreshed.copy(tmp_path / "run").run(*SETTINGS)
    if not metrics(run, at(CompareLabels, 1))["taken"]:
        pytest.fail("the first refresh is taken here")
    monkeypatch.setattr(compare, "fault", lambda *_: "they are worse")
    found = perform(run, at(CompareLabels, 2), force=True).metrics
    assert (found["taken"], found["labels_of"]) == (False, 1)
    assert found["before"] == metrics(run, at(CompareLabels, 1))["now"]
    assert perform(run, at(TrainStudent)).metrics["labels_of_refresh"] == 1
    assert labels_of(run, at(TrainStudent)) == run.folder(at(Refine, 1))


def test_what_makes_held_out_labels_of_a_later_round():
    """Round r + 1's labeller is measured at the end of round r, its refreshes in r + 1."""
    assert HeldOut(round=3).command == "run --rounds 2"
    assert HeldOut(round=3, refresh=1).command == "run --rounds 3"
    assert HeldOut(refresh=1).command == "held-out --refresh 1"
