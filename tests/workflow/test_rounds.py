"""Rounds: whose labels a student learns from, when they stop, and what status shows."""

import json
import pickle

import pytest

from s4m_pipeline.artifacts import file_facts
from s4m_pipeline.artifacts.collecting import leftovers
from s4m_pipeline.artifacts.manifest import read_manifest
from s4m_pipeline.artifacts.tables import read_table
from s4m_pipeline.engine.registry import STAGES
from s4m_pipeline.metrics.average_precision import coco_ap
from s4m_pipeline.metrics.label_quality import label_quality
from s4m_pipeline.metrics.matching import Label
from s4m_pipeline.stages.calibration.held_out import HeldOut
from s4m_pipeline.stages.calibration.held_out_quality import quality
from s4m_pipeline.stages.evaluate import Evaluate
from s4m_pipeline.stages.prediction_rows import prediction_rows
from s4m_pipeline.stages.prediction_settings import PredictionSettings
from s4m_pipeline.stages.pseudo_label import PseudoLabel
from s4m_pipeline.stages.refine.stage import Refine
from s4m_pipeline.stages.train_student import TrainStudent
from s4m_pipeline.stages.train_teacher import TrainTeacher
from s4m_pipeline.stages.trainings import training_named, training_of_round
from s4m_pipeline.workflow import rounds
from s4m_pipeline.workflow.pipeline import run_all, stages_of, stages_of_rounds, status
from s4m_pipeline.workflow.rounds import RoundResult, run_rounds

RESULTS = "results.pickle"
SHORT = ("pseudo_label.score=0.02", "student.start=teacher")


@pytest.fixture(scope="module")
def two_rounds(finished, workshop_once):
    """A run of two rounds, whatever they bring."""

    def carry_out(workshop):
        results = []
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(RoundResult, "rose", True)
            run_rounds(workshop.run(*SHORT), 2, on_round=results.append)
        (workshop.folder / RESULTS).write_bytes(pickle.dumps(results))

    workshop = workshop_once("two-rounds", finished, carry_out)
    return workshop, pickle.loads((workshop.folder / RESULTS).read_bytes())


def test_each_round_is_made_of_the_one_before(two_rounds):
    workshop, _ = two_rounds
    run = workshop.run(*SHORT)
    manifests = {
        (kind.name, n): run.store.manifest(kind.name, run.fingerprint(kind(round=n)))
        for kind in (PseudoLabel, Refine, TrainStudent)
        for n in (1, 2)
    }
    assert manifests["pseudo-label", 1].inputs["teacher"] == run.fingerprint(TrainTeacher())
    assert manifests["pseudo-label", 2].inputs["teacher"] == run.fingerprint(TrainStudent(round=1))
    assert manifests["refine", 2].inputs["predictions"] == run.fingerprint(PseudoLabel(round=2))
    assert manifests["train-student", 2].inputs["refined"] == run.fingerprint(Refine(round=2))
    assert len({manifest.fingerprint for manifest in manifests.values()}) == 6
    assert manifests["pseudo-label", 1].content != manifests["pseudo-label", 2].content


def test_a_round_is_no_setting(finished):
    run = finished.run()
    for kind in (PseudoLabel, Refine, TrainStudent):
        assert kind(round=2).settings(run.config) == kind().settings(run.config)
        assert kind(round=2).sources(run) == kind().sources(run)


def test_the_next_rounds_teacher_has_the_averaged_weights(two_rounds):
    from s4m_pipeline.data.images import read_image
    from s4m_pipeline.models.predictor import Predictor

    workshop, _ = two_rounds
    run = workshop.run(*SHORT)
    rows = read_table(run.folder(PseudoLabel(round=2)), "predictions").to_pylist()
    record = next(i for i in run.images.unlabelled.images if i.id == rows[0]["image_id"])
    image = read_image(record.path)
    own = [row["score"] for row in rows if row["image_id"] == record.id]
    scores = {}
    for averaged in (True, False):
        model = Predictor(run.folder(TrainStudent(round=1)) / "checkpoint.pth", "cpu", averaged)
        ids = [category["id"] for category in model.categories]
        settings = PredictionSettings.of(run.config)
        predicted = prediction_rows(
            record, image.shape[:2], model.predict([image])[0], ids, settings
        )
        scores[averaged] = [row["score"] for row in predicted]
    assert own == pytest.approx(scores[True], abs=1e-5)
    assert own != pytest.approx(scores[False], abs=1e-5)


def test_all_weights_side_by_side_have_the_later_rounds_students(two_rounds, s4m):
    workshop, _ = two_rounds
    code, out, err = s4m("evaluate", "-c", workshop.config, "--compare", "--json", *SHORT)
    assert code == 0, err
    figures = json.loads(out)
    assert list(figures) == ["teacher", "student-averaged", "student-last", "student-2"]
    code, out, _ = s4m("evaluate", "-c", workshop.config, "--of", "student-2", "--json", *SHORT)
    assert json.loads(out) == figures["student-2"]


def test_a_later_rounds_labels_have_a_page(two_rounds, tmp_path, s4m):
    workshop, _ = two_rounds
    run = workshop.run(*SHORT)
    pages = {}
    for number in (1, 2):
        pages[number] = tmp_path / f"{number}.html"
        options = ("--round", str(number), "--out", pages[number], "--limit", "2")
        code, _, err = s4m("report", "-c", workshop.config, *SHORT, *options)
        assert code == 0, err
        assert run.fingerprint(Refine(round=number)) in pages[number].read_text()
    assert run.fingerprint(Refine(round=1)) not in pages[2].read_text()


@pytest.mark.parametrize(
    ("options", "word"),
    [
        (("--round", "3"), "has not been made"),
        (("--round", "0"), "rounds count from 1"),
        (("--round", "2", "--stage", "train-teacher"), "the last one's student"),
        (("--stage", "evaluate"), "only of train-teacher, pseudo-label, refine, train-student"),
    ],
)
def test_a_page_that_cannot_be_is_refused(two_rounds, s4m, tmp_path, options, word):
    workshop, _ = two_rounds
    code, _, err = s4m("report", "-c", workshop.config, *SHORT, *options, "--out", tmp_path / "x")
    assert code == 2
    assert word in err


def test_a_later_rounds_labels_are_judged(two_rounds, s4m):
    workshop, _ = two_rounds
    run, truth = workshop.run(*SHORT), workshop.folder / "scenes" / "unlabelled.json"
    options = ("--labels", "--annotations", truth, "--json")
    for number in (1, 2):
        arguments = options if number == 1 else (*options, "--round", number)
        code, out, err = s4m("evaluate", "-c", workshop.config, *SHORT, *arguments)
        assert code == 0, err
        decisions = read_table(run.folder(Refine(round=number)), "refined")["decision"].to_pylist()
        assert json.loads(out)["refined"]["labels"] == len(decisions) - decisions.count("dropped")
    for number, word in ((3, "s4m run --rounds 3"), (0, "rounds count from 1")):
        arguments = (*options, "--round", number)
        code, _, err = s4m("evaluate", "-c", workshop.config, *SHORT, *arguments)
        assert code == 2
        assert word in err


def test_one_line_a_round_says_what_label_quality_became(two_rounds):
    workshop, results = two_rounds
    run = workshop.run(*SHORT)
    assert [result.number for result in results] == [1, 2]
    assert results[0].after == results[1].before
    for result in results:
        after = read_manifest(run.folder(HeldOut(round=result.number + 1))).metrics
        assert result.after == after["quality"]
        line = str(result)
        assert f"{result.before:.3f} -> {result.after:.3f}" in line
        assert "mask AP" in line
        assert "\n" not in line


def test_held_out_quality_is_that_of_labels_above_the_threshold(two_rounds):
    workshop, _ = two_rounds
    run = workshop.run(*SHORT)
    for number in (1, 2, 3):
        folder = run.folder(HeldOut(round=number))
        labels = {}
        for row in read_table(folder, "predictions").to_pylist():
            if row["score"] > 0.02 and sum(row["soft_mask"]) / 255 > 1:
                label = Label(row["category_id"], row["mask_rle"], row["score"])
                labels.setdefault(row["image_id"], []).append(label)
        figures = label_quality(run.images.validation, labels)
        metrics = read_manifest(folder).metrics
        assert metrics["labels"] == figures
        if figures["matched"]:
            f1 = 2 * figures["matched"] / (figures["labels"] + figures["truth"])
            assert metrics["quality"] == pytest.approx(figures["mean_iou"] * f1)


def test_quality_is_one_for_perfect_labels_and_falls_with_false_and_missed_ones():
    def of(matched, labels, truth, iou):
        return quality({"matched": matched, "labels": labels, "truth": truth, "mean_iou": iou})

    assert of(4, 4, 4, 1.0) == 1.0
    assert of(4, 8, 4, 1.0) == of(4, 4, 8, 1.0) == pytest.approx(2 / 3)
    assert of(4, 4, 4, 0.8) == pytest.approx(0.8)
    assert of(0, 0, 4, None) == 0.0
    assert of(0, 0, 0, None) == 0.0


def test_the_second_rounds_student_is_evaluated_by_name(two_rounds):
    workshop, results = two_rounds
    run = workshop.run(*SHORT)
    stage = Evaluate("student", round=2)
    assert stage.upstream(run.config) == {"student-2": TrainStudent(round=2)}
    folder = run.folder(stage)
    detections = json.loads((folder / "detections.json").read_text())
    ap = coco_ap(run.images.validation, detections)
    assert results[1].average_precision == pytest.approx(ap["segm"]["AP"])


def test_status_shows_the_rounds_that_exist(two_rounds, finished):
    workshop, _ = two_rounds
    rows = {row["stage"]: row["state"] for row in status(workshop.run(*SHORT))}
    for stage in ("pseudo-label", "refine", "train-student"):
        assert rows[stage] == rows[f"{stage} round-2"] == "fresh"
    assert rows["evaluate student-2"] == "fresh"
    assert not any("round-3" in stage for stage in rows)
    assert not any("round" in row["stage"] for row in status(finished.run()))
    changed = {
        row["stage"]: row["state"] for row in status(workshop.run(*SHORT, "refine.points=2"))
    }
    assert changed["pseudo-label round-2"] == "stale"


def test_what_rounds_are_made_of_is_not_removable(two_rounds):
    workshop, _ = two_rounds
    run = workshop.run(*SHORT)
    removable = {found.fingerprint for found in leftovers(run.store, STAGES)}
    for kind in (PseudoLabel, Refine, TrainStudent):
        for number in (1, 2):
            assert run.fingerprint(kind(round=number)) not in removable


@pytest.mark.parametrize(
    ("qualities", "rounds_made", "message"),
    [
        ([0.2, 0.3, 0.4, 0.5], 3, ""),
        ([0.2, 0.3, 0.3], 2, "round 2 of 3; those of the student were the best"),
        ([0.3, 0.2], 1, "round 1 of 3; those of the teacher were the best"),
        ([0.3, 0.0], 1, "round 1 of 3; those of the teacher were the best"),
        ([0.2, 0.3, 0.25], 2, "round 2 of 3; those of the student were the best"),
        ([0.0, 0.0], 1, "neither the teacher nor the round's student has a usable label"),
    ],
    ids=["rising", "no longer rising", "falling at once", "to nothing", "falling then", "nothing"],
)
def test_rounds_stop_when_label_quality_no_longer_rises(
    finished, monkeypatch, qualities, rounds_made, message
):
    run = finished.run()
    said = []
    monkeypatch.setattr(run.reporter, "say", said.append)
    monkeypatch.setattr(run.reporter, "warn", said.append)
    ran = []

    class Made:
        def __init__(self, metrics):
            self.metrics = metrics

    def run_all(run, stages, force):
        ran.append([stage.title for stage in stages])
        return {stage.title: Made({"segm": {"AP": 0.1}}) for stage in stages}

    def perform(run, stage, force=False):
        labels = {"precision": 0.5, "recall": 0.5, "mean_iou": 0.5}
        return Made({"quality": qualities[stage.round - 1], "labels": labels})

    monkeypatch.setattr(rounds, "run_all", run_all)
    monkeypatch.setattr(rounds, "perform", perform)
    results = []
    run_rounds(run, 3, on_round=results.append)
    assert len(ran) == len(results) == rounds_made
    rose = [True] * (rounds_made - 1) + [rounds_made == 3 and len(ran) == 3]
    assert [result.rose for result in results] == rose
    assert [message in text for text in said] == ([True] if message else [])


def test_one_round_is_the_plain_run(finished, monkeypatch):
    run = finished.run()
    keys = [stage.title for stage in stages_of(run.config)]
    assert [stage.title for stage in stages_of_rounds(run.config, 1)] == keys
    monkeypatch.setattr(file_facts, "YOUNG", -(10**18))  # the scenes were copied just now
    status(finished.run())
    before = {p: p.stat().st_mtime_ns for p in (finished.folder / "work").rglob("*.*")}
    assert run_rounds(run, 1).keys() == run_all(finished.run()).keys()
    assert {p: p.stat().st_mtime_ns for p in (finished.folder / "work").rglob("*.*")} == before


def test_without_validation_images_all_rounds_are_run_and_the_line_says_so(finished, monkeypatch):
    run = finished.run()
    run.config.data.validation = None
    monkeypatch.setattr(rounds, "run_all", lambda run, stages, force: {})
    results = []
    run_rounds(run, 3, on_round=results.append)
    assert [str(result)[:13] for result in results] == [f"round {n}: done" for n in (1, 2, 3)]


def test_fewer_than_one_round_is_wrong_use(finished, s4m):
    code, _, err = s4m("run", "-c", finished.config, "--rounds", "0")
    assert code == 2
    assert "--rounds" in err


def test_a_dry_run_lists_all_rounds(finished, s4m):
    code, out, _ = s4m("run", "-c", finished.config, "--rounds", "3", "--dry-run")
    assert code == 0
    assert "train-student round-2" in out
    assert "train-student round-3" in out
    assert "evaluate student-3" in out
    assert out.count("held-out") == 4  # of the teacher and of each round's student


def test_models_go_by_name():
    assert isinstance(training_named("teacher"), TrainTeacher)
    assert training_named("student") == TrainStudent() == training_of_round(1)
    assert training_named("student-3") == TrainStudent(round=3)
    for name in ("student-1", "student-x", "student-0", "runs/student-2", "pupil"):
        assert training_named(name) is None


def test_a_missing_round_names_the_command_that_makes_it(finished, s4m):
    code, _, err = s4m("evaluate", "-c", finished.config, "--of", "student-2")
    assert code == 2
    assert "s4m run --rounds 2" in err
