"""What ``evaluate`` says, and label quality."""

import json

import pytest

from s4m_pipeline.artifacts.sealed import write_sealed
from s4m_pipeline.data.formats import coco
from s4m_pipeline.metrics import cityscapes_ap
from s4m_pipeline.stages import detect_and_score
from s4m_pipeline.stages.detections import DETECTIONS, stored_detections
from s4m_pipeline.stages.evaluate import Evaluate
from s4m_pipeline.stages.train_teacher import TrainTeacher
from s4m_pipeline.workflow.compare import evaluations


def test_a_training_artifact_on_another_image_set_gives_the_same_figures(finished, tmp_path, s4m):
    copy = finished.copy(tmp_path / "run")
    scenes = copy.folder / "scenes"
    folder = copy.run().folder(TrainTeacher())
    own = s4m("evaluate", "-c", copy.config, "--of", "teacher", "--json")
    other = s4m(
        *("evaluate", "-c", copy.config, "--of", folder, "--json"),
        *("--images", scenes / "validation", "--annotations", scenes / "validation.json"),
    )
    assert own[0] == other[0] == 0
    assert json.loads(own[1]) == json.loads(other[1])
    figures = json.loads(own[1])
    assert set(figures) == {"segm", "bbox", "boundary", "engine"}
    assert set(figures["segm"]["per_class"]["disc"]) == {
        *("AP", "AP50", "AP75", "AP_small", "AP_medium", "AP_large"),
        *("AR1", "AR10", "AR", "AR_small", "AR_medium", "AR_large", "instances"),
    }
    assert figures["engine"].split()[0] in ("faster-coco-eval", "pycocotools")


def test_evaluate_prints_a_table_with_every_class(finished, s4m):
    code, out, _ = s4m("evaluate", "-c", finished.config, "--of", "student")
    assert code == 0
    for name in ("disc", "star", "cross", "crescent"):
        assert name in out
    for word in ("mask", "box", "boundary", "small", "medium", "AR"):
        assert word in out


def test_what_the_model_had_to_give_up_is_told_and_stands_in_the_manifest(
    finished, tmp_path, s4m, monkeypatch
):
    from s4m_pipeline.models.predictor import Predictor

    whole = Predictor.detect

    def halved(self, images):
        self.warnings[:] = ["memory ran out: 2 images a batch"]
        return whole(self, images)

    monkeypatch.setattr(Predictor, "detect", halved)
    copy = finished.copy(tmp_path / "run")
    code, out, err = s4m("evaluate", "-c", copy.config, "--of", "teacher", "--json", "--force")
    assert code == 0, err
    assert "memory ran out: 2 images a batch" in err
    assert json.loads(out)["warnings"] == ["memory ran out: 2 images a batch"]


@pytest.mark.parametrize(
    ("options", "word"),
    [
        (("--split", "test"), "--split"),
        (("--images", "scenes"), "--annotations"),
        (("--of", "nobody"), "nobody"),
        (("--labels",), "--annotations"),
        (("--round", "2"), "--of student-2"),
        (("--metric", "voc"), "--metric"),
        (("--compare", "--no-averaged"), "--no-averaged"),
    ],
)
def test_wrong_use_of_evaluate(finished, s4m, options, word):
    code, _, err = s4m("evaluate", "-c", finished.config, *options)
    assert code == 2
    assert word in err


def test_all_weights_side_by_side_are_those_evaluated_one_by_one(finished, tmp_path, s4m):
    copy = finished.copy(tmp_path / "run")
    code, out, _ = s4m("evaluate", "-c", copy.config, "--compare", "--json")
    assert code == 0
    figures = json.loads(out)
    assert list(figures) == ["teacher", "student-averaged", "student-last"]
    for name, options in {
        "teacher": ("--of", "teacher"),
        "student-averaged": ("--of", "student"),
        "student-last": ("--of", "student", "--no-averaged"),
    }.items():
        code, out, err = s4m("evaluate", "-c", copy.config, "--json", *options)
        assert code == 0
        assert "fresh" in err  # an artifact of its own, which the comparison left
        assert json.loads(out) == figures[name]
    run = copy.run()
    folders = {run.folder(stage) for stage in evaluations(run.config, Evaluate("all")).values()}
    assert len(folders) == 3
    detections = [(folder / DETECTIONS).read_bytes() for folder in folders]
    assert len(set(detections)) == 3  # the averaged weights are others than the last ones
    code, out, _ = s4m("evaluate", "-c", copy.config, "--of", "all")
    assert code == 0
    for word in (*figures, "mask AP", "boundary AP", "box AP", "crescent"):
        assert word in out


def test_a_comparison_is_planned(finished, s4m):
    code, out, _ = s4m("evaluate", "-c", finished.config, "--compare", "--dry-run")
    assert code == 0
    lines = out.splitlines()[1:]
    assert [line.split()[:2] for line in lines[:2]] == [
        ["evaluate", "teacher"],
        ["evaluate", "student"],
    ]
    assert sum("fresh" in line for line in lines) == 2  # the run has made these
    assert "missing" in lines[2]


def test_a_student_without_average_is_compared_once(finished):
    run = finished.run("student.ema=0")
    assert list(evaluations(run.config, Evaluate("all"))) == ["teacher", "student"]


def test_nothing_is_compared_before_all_is_trained(empty_workshop, s4m):
    code, out, err = s4m("evaluate", "-c", empty_workshop.config, "--compare")
    assert code == 2
    assert out == ""
    assert "s4m train-teacher" in err


def test_another_metric_takes_the_same_detections(finished, tmp_path, s4m, monkeypatch):
    copy = finished.copy(tmp_path / "run")
    run = copy.run()
    before = (run.require(Evaluate("teacher")) / DETECTIONS).read_bytes()
    arguments = ("evaluate", "-c", copy.config, "--of", "teacher", "--metric", "both")
    monkeypatch.setattr(detect_and_score, "_detect", lambda *_: pytest.fail("it detects again"))
    code, out, err = s4m(*arguments, "--json")
    assert code == 0
    assert "void" in err  # the scenes have none, and the figures are not quite Cityscapes'
    figures = json.loads(out)
    assert {"segm", "cityscapes"} < set(figures)
    folder = run.require(Evaluate("teacher", metric="both"))
    assert (folder / DETECTIONS).read_bytes() == before
    truth = coco.load(*(copy.folder / "scenes" / n for n in ("validation.json", "validation")))
    expected = cityscapes_ap(truth, json.loads(before))
    assert figures["cityscapes"] == expected
    monkeypatch.setattr(detect_and_score, "_detect", lambda *_: iter(()))
    code, out, _ = s4m(*arguments, "--force", "--json")  # anew: here, nothing is found
    assert code == 0
    assert json.loads(out)["segm"]["AP"] == 0.0


@pytest.mark.parametrize("damage", ["retrained", "changed", "set aside"])
def test_detections_that_are_not_the_same_are_not_taken(finished, tmp_path, damage):
    copy = finished.copy(tmp_path / "run")
    run = copy.run()
    folder = run.require(Evaluate("teacher"))
    other = Evaluate("teacher", metric="coco")
    assert stored_detections(run, other) == json.loads((folder / DETECTIONS).read_bytes())
    assert stored_detections(run, Evaluate("student", metric="coco", averaged=False)) is None
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text())
    if damage == "retrained":
        manifest["input_contents"]["teacher"] = "0" * 16
    elif damage == "set aside":
        manifest["counts"]["quarantined"] = 1
    else:
        (folder / DETECTIONS).write_text("[]")
    write_sealed(path, manifest)
    assert stored_detections(run, other) is None


def test_label_quality_counts_labels_of_both_kinds(finished, s4m):
    truth = finished.folder / "scenes" / "unlabelled.json"
    code, out, _ = s4m(
        "evaluate", "-c", finished.config, "--labels", "--annotations", truth, "--json"
    )
    assert code == 0
    figures = json.loads(out)
    assert set(figures) == {"teacher", "refined"}
    assert figures["teacher"]["labels"] == figures["refined"]["labels"] > 0
    assert figures["teacher"]["images"] == 18


def test_labels_are_not_judged_by_classes_of_other_numbers(finished, tmp_path, s4m):
    truth = json.loads((finished.folder / "scenes" / "unlabelled.json").read_text())
    first, second = truth["categories"][:2]
    first["id"], second["id"] = second["id"], first["id"]
    (tmp_path / "swapped.json").write_text(json.dumps(truth))
    code, out, err = s4m(
        "evaluate", "-c", finished.config, "--labels", "--annotations", tmp_path / "swapped.json"
    )
    assert (code, out) == (2, "")
    for word in ("different categories (2 differ)", "data.labelled", "swapped.json"):
        assert word in err


def test_labels_are_not_judged_by_masks_of_another_size(finished, tmp_path, s4m):
    truth = json.loads((finished.folder / "scenes" / "unlabelled.json").read_text())
    size = truth["images"][0]["height"]
    for image in truth["images"]:
        image["height"] = image["width"] = 2 * size
    for entry in truth["annotations"]:
        entry["segmentation"] = [[1, 1, 9, 1, 9, 9]]
    (tmp_path / "double.json").write_text(json.dumps(truth))
    code, _, err = s4m(
        "evaluate", "-c", finished.config, "--labels", "--annotations", tmp_path / "double.json"
    )
    assert code == 2
    assert f"has {2 * size} x {2 * size} pixels, its labels {size} x {size}" in err


@pytest.mark.parametrize(
    ("stage", "name"),
    [
        (Evaluate("teacher"), "latest-teacher-validation"),
        (Evaluate("student"), "latest-student-validation"),
        (Evaluate("student", round=2), "latest-student-2-validation"),
        (Evaluate("student", averaged=False), "latest-student-validation-source"),
        (Evaluate("student", "labelled", metric="coco"), "latest-student-labelled-coco"),
    ],
)
def test_its_last_artifact_is_pointed_at_as_in_the_first_version(stage, name):
    """Work folders of 0.1.0 have these names; under others they would never be superseded."""
    assert f"latest-{stage.pointer}" == name
