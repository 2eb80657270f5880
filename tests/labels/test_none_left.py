"""Where no pseudo-label is left, the setting that did it is named, with a command that mends it."""

from __future__ import annotations

import re
import shlex
from types import SimpleNamespace

import numpy as np
import pyarrow.parquet as pq
import pytest

from s4m_pipeline.artifacts.tables import read_table
from s4m_pipeline.config_file import load_config
from s4m_pipeline.console.reporter import Reporter
from s4m_pipeline.engine.perform import perform
from s4m_pipeline.engine.run import Run
from s4m_pipeline.errors import S4MError
from s4m_pipeline.labels.none_left import Losses, explained, warn_of_no_label
from s4m_pipeline.labels.warnings import check_labels
from s4m_pipeline.stages.pseudo_label import PseudoLabel
from s4m_pipeline.stages.refine.rethreshold import StoredMasks, rethresholding
from s4m_pipeline.stages.refine.stage import Refine


class Listening(Reporter):
    def __init__(self):
        super().__init__(quiet=True)
        self.warned, self.said = [], []

    def say(self, message):
        self.said.append(message)

    def warn(self, message):
        self.warned.append(message)


def run_with(workshop, *overrides, called_as=""):
    called = shlex.join(["-c", str(workshop.config), *overrides])
    return Run(load_config(workshop.config, overrides), Listening(), called, called_as)


def stored(workshop):
    """Scores and mask cells of the stored predictions, read without the code under test."""
    folder = workshop.run().folder(PseudoLabel()) / "predictions"
    rows = pq.read_table(folder, columns=["score", "soft_mask"]).to_pylist()
    cells = [np.frombuffer(row["soft_mask"], np.uint8).sum() / 255 for row in rows]
    return np.array([row["score"] for row in rows]), np.array(cells)


def told(run, stage="train-student"):
    with pytest.raises(S4MError) as caught:
        check_labels(run, run.folder(Refine()), stage)
    lines = str(caught.value).splitlines()
    assert len(lines) <= 3
    assert lines[0].startswith("there is not one pseudo-label")
    return lines


def command_in(line):
    """The command at the end of a line, as words."""
    return shlex.split(line[line.index("s4m ") :])


def test_a_least_area_is_named_and_its_command_makes_labels(finished, tmp_path, s4m):
    copy = finished.copy(tmp_path / "run")
    run = run_with(copy, "pseudo_label.min_area=100000")
    perform(run, Refine())
    scores, cells = stored(copy)
    above = int((scores > run.config.pseudo_label.score).sum())
    assert run.reporter.warned  # before any mask was refined
    assert run.reporter.warned[0].startswith("not one prediction becomes a label")
    lines = told(run)
    assert f"of {len(scores)} predictions on 18 images" in lines[0]
    assert f"{above} have masks of no more than pseudo_label.min_area 100000 cells" in lines[0]
    assert f"(the largest {cells[scores > 0.05].max():.1f})" in lines[0]
    words = command_in(lines[1])
    assert str(copy.config) in words
    assert sum(word.startswith("pseudo_label.min_area=") for word in words) == 1
    code, _, err = s4m(*words[1:])
    assert code == 0, err
    value = float(words[-1].partition("=")[2])
    kept = int(((scores > run.config.pseudo_label.score) & (cells > value)).sum())
    assert kept > 0
    made = copy.run(*words[4:])
    decisions = read_table(made.folder(Refine()), "refined", ["decision"])["decision"].to_pylist()
    assert len([decision for decision in decisions if decision != "dropped"]) == kept


def test_a_score_is_named_and_its_command_makes_labels(finished, tmp_path, s4m):
    copy = finished.copy(tmp_path / "run")
    run = run_with(copy, "pseudo_label.score=1")
    perform(run, Refine())
    scores, _ = stored(copy)
    lines = told(run)
    assert f"{len(scores)} score no more than pseudo_label.score 1" in lines[0]
    assert f"(the highest {scores.max():.3g})" in lines[0]
    words = command_in(lines[1])
    code, _, err = s4m(*words[1:])
    assert code == 0, err
    assert (scores > float(words[-1].partition("=")[2])).any()


@pytest.mark.parametrize(
    ("settings", "told_of"),
    [
        (["refine.min_agreement=1"], "agree with the teacher's masks less than refine.min_agree"),
        (
            ["refine.min_agreement=0", "refine.max_area_ratio=1.0000001"],
            "differ in area from the teacher's masks by more than refine.max_area_ratio",
        ),
    ],
)
def test_a_gate_is_named_and_its_command_makes_labels(finished, tmp_path, s4m, settings, told_of):
    copy = finished.copy(tmp_path / "run")
    settings = ["refine.gate=drop", "refine.candidate=single", *settings]
    run = run_with(copy, *settings)
    perform(run, Refine())
    assert any(text.startswith("not one label is left") for text in run.reporter.warned)
    lines = told(run)
    codes = read_table(run.folder(Refine()), "refined", ["reason_code"])["reason_code"].to_pylist()
    count = sum(code in ("agreement", "area_ratio") for code in codes)
    assert f"{count} {told_of.partition(' ')[0]}" in lines[0]
    assert told_of in lines[0]
    assert "refine.gate is drop" in lines[0]
    words = command_in(lines[1])
    assert words[1] == "refine"
    assert words[-1] == "refine.gate=keep"
    assert s4m(*words[1:])[0] == 0


def test_thresholds_by_rate_name_the_floor(finished, tmp_path):
    copy = finished.copy(tmp_path / "run")
    run = run_with(copy, "pseudo_label.thresholds=rate", "refine.min_score=1")
    perform(run, Refine())
    lines = told(run)
    assert "refine.min_score 1" in lines[0]
    words = command_in(lines[1])
    assert words[1] == "refine"
    assert words[-1].startswith("refine.min_score=0")


@pytest.mark.parametrize(
    ("without_pixel", "text"),
    [
        (0, "not one query of the model scores pseudo_label.min_score 0.02 or more on 18 images"),
        (144, "144 predictions score pseudo_label.min_score 0.02 or more on 18 images, but all"),
    ],
)
def test_nothing_stored_is_told_apart(finished, without_pixel, text):
    run = run_with(finished)
    for instances in run.images.labelled.instances.values():
        for instance in instances:
            instance.area = 1000  # not one too small for the model
    first, second = explained(run, Losses(18, without_pixel)).splitlines()
    assert text in first
    words = command_in(second)
    assert words[1:3] == ["train-teacher", "-c"]
    assert words[-1] == "teacher.iterations=80"


def test_too_few_queries_are_named_where_they_are_the_cause(finished):
    run = run_with(finished)
    record = run.images.labelled.images[0]
    run.images.labelled.instances[record.id] *= 30
    lines = explained(run, Losses(18, 144)).splitlines()
    assert len(lines) == 3
    assert "the model finds at most 8 (num_queries)" in lines[1]
    assert "train-teacher" not in "".join(lines)


def test_later_rounds_are_made_by_run(finished):
    losses = Losses(18)
    losses.add("score", {"score": 0.03})
    words = command_in(explained(run_with(finished), losses, round=2).splitlines()[1])
    assert words[1:4] == ["run", "--rounds", "2"]


def test_run_is_told_to_run_again_with_what_changes(finished, tmp_path, s4m):
    """What a command of one stage changes would be gone with the next ``s4m run``."""
    copy = finished.copy(tmp_path / "run")
    run = run_with(copy, "pseudo_label.score=1", called_as="run")
    perform(run, Refine())
    (warned,) = [text for text in run.reporter.warned if text.startswith("not one prediction")]
    words = command_in(warned.splitlines()[1])
    assert words[1:3] == ["run", "-c"]
    assert words[-1].startswith("pseudo_label.score=0")
    _, first, then = told(run)
    assert command_in(first)[1] in ("rethreshold", "run")
    words = command_in(then)
    assert words[1:3] == ["run", "-c"]
    code, _, err = s4m(*command_in(first)[1:])
    assert code == 0, err
    code, _, err = s4m(*words[1:])
    assert code == 0, err
    refined = copy.run(*words[4:])
    assert f"refine: fresh ({refined.fingerprint(Refine())})" in err
    nothing = explained(run_with(finished, called_as="run --rounds 2"), Losses(18))
    assert command_in(nothing.splitlines()[-1])[1:4] == ["run", "--rounds", "2"]


@pytest.mark.parametrize("is_refined", [False, True])
def test_labels_of_a_refresh_are_not_made_by_commands_of_the_first_ones(finished, is_refined):
    losses = Losses(18)
    for _ in range(2):
        text = explained(run_with(finished), losses, is_refined, refresh=2)
        assert "s4m " not in text
        assert "the training goes on with those before" in text
        assert len(text.splitlines()) == 3
        losses.add("score", {"score": 0.03})


def test_the_labels_of_a_later_round_are_not_told_to_be_refined_as_the_first(finished):
    run = run_with(finished, "pseudo_label.score=1")
    folder, counts = run_with(finished).folder(PseudoLabel()), {"images": 18}
    warn_of_no_label(run, folder, counts, Refine(round=2))
    (text,) = run.reporter.warned
    assert text.startswith("not one prediction becomes a label at round-2: ")
    assert command_in(text.splitlines()[1])[1:4] == ["run", "--rounds", "2"]


def test_a_run_with_labels_is_not_warned(finished, tmp_path):
    copy = finished.copy(tmp_path / "run")
    run = run_with(copy, "pseudo_label.min_area=2")
    perform(run, Refine())
    assert not [text for text in run.reporter.warned if "label" in text]


def test_predictions_without_a_pixel_are_counted(finished, tmp_path, monkeypatch):
    """All masks are empty: as many predictions as there are queries above the score."""
    from s4m_pipeline.models.predictor import Predictor

    copy, seen = finished.copy(tmp_path / "run"), []
    predict = Predictor.predict

    def empty(self, images, min_score):
        found = predict(self, images, min_score)
        for one in found:
            one.mask_logits[:] = -50
            seen.append(len(one.class_probs))
        return found

    monkeypatch.setattr(Predictor, "predict", empty)
    run = run_with(copy, "pseudo_label.min_score=0.03")
    manifest = perform(run, PseudoLabel())
    assert manifest.counts["instances"] == 0
    assert manifest.counts["without_pixel"] == sum(seen) > 0
    assert re.search(rf"{sum(seen)} predictions? scores? ", run.reporter.warned[-1])


@pytest.mark.parametrize("count", [1, 8, 80])
def test_thresholds_of_many_classes_are_one_line(count):
    scores = {f"class {n}": 0.3 + n / 200 for n in range(count)}
    run = SimpleNamespace(
        reporter=Listening(),
        store=SimpleNamespace(manifest=lambda *_: SimpleNamespace(counts={"instances": 7})),
    )
    outcome = SimpleNamespace(metrics={"thresholds": {"scores": scores}}, counts={"instances": 5})
    masks = StoredMasks()
    masks.artifact = lambda stage, run: SimpleNamespace(name="f" * 16)
    masks.end(rethresholding(), run, outcome)
    (line,) = run.reporter.said
    assert "5 labels, 7 before" in line
    assert len(line) < 300
    assert "class 0" in line
    assert ("80 classes from 0.30 (class 0) to 0.70 (class 79)" in line) == (count == 80)
