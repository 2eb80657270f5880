"""What ``evaluate`` says, and label quality."""

import json

import pytest

from s4m_pipeline.stages.train_teacher import TrainTeacher


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
    assert set(json.loads(own[1])) == {"segm", "bbox"}


def test_evaluate_prints_a_table_with_every_class(finished, s4m):
    code, out, _ = s4m("evaluate", "-c", finished.config, "--of", "student")
    assert code == 0
    for name in ("disc", "star", "cross", "crescent"):
        assert name in out


@pytest.mark.parametrize(
    ("options", "word"),
    [
        (("--split", "test"), "--split"),
        (("--images", "scenes"), "--annotations"),
        (("--of", "nobody"), "nobody"),
        (("--labels",), "--annotations"),
    ],
)
def test_wrong_use_of_evaluate(finished, s4m, options, word):
    code, _, err = s4m("evaluate", "-c", finished.config, *options)
    assert code == 2
    assert word in err


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
