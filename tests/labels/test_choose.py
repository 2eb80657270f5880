"""Thresholds of a run, moving them in seconds, and what the labels are like."""

import json

import numpy as np
import pytest

from s4m_pipeline.artifacts.manifest import read_manifest, verify
from s4m_pipeline.artifacts.sealed import write_sealed
from s4m_pipeline.artifacts.tables import read_table
from s4m_pipeline.engine.perform import freshness, perform
from s4m_pipeline.errors import S4MError, UsageError
from s4m_pipeline.labels import warnings as label_warnings
from s4m_pipeline.labels.choose import choose_thresholds, warn_unreached
from s4m_pipeline.labels.thresholds import Thresholds
from s4m_pipeline.labels.warnings import label_rates, messages, rates_of
from s4m_pipeline.stages.calibration.cross_fit import CrossFit
from s4m_pipeline.stages.pseudo_label import PseudoLabel
from s4m_pipeline.stages.refine.rethreshold import StoredMasks, rethresholding
from s4m_pipeline.stages.refine.stage import Refine


def quantile(workshop, share):
    """A score between those that a share of the predictions and the rest have."""
    scores = read_table(workshop.run().folder(PseudoLabel()), "predictions")["score"].to_numpy()
    ranked = np.unique(scores)
    place = int(share * (len(ranked) - 1))
    return round(float(ranked[place : place + 2].mean()), 6)


def below(workshop):
    """Refined from a fifth of the scores up, labels above two fifths."""
    low, score = quantile(workshop, 0.2), quantile(workshop, 0.4)
    return (f"refine.min_score={low}", f"pseudo_label.score={score}")


def rows_of(run, table="refined"):
    return read_table(run.folder(Refine()), table).to_pylist()


def files_of(run, *tables):
    entries = read_manifest(run.folder(Refine())).files
    return {e.path: e.sha256 for e in entries if e.path.split("/")[0] in tables}


@pytest.fixture(scope="module")
def refined(finished, workshop_once):
    """A run refined below its threshold."""

    def refine(workshop):
        perform(workshop.run(*below(workshop)), Refine())

    return workshop_once("refined-below", finished, refine)


@pytest.fixture
def no_segmenter(monkeypatch):
    from s4m_pipeline.data import images
    from s4m_pipeline.engine import reading
    from s4m_pipeline.segmenter import build

    def refuse(*_, **__):
        raise AssertionError("neither segmenter nor images are needed")

    monkeypatch.setattr(build, "build_segmenter", refuse)
    monkeypatch.setattr(reading, "read_sized_image", refuse)
    monkeypatch.setattr(images, "read_image", refuse)


CHANGES = {
    "higher": lambda run: f"pseudo_label.score={quantile(run, 0.7)}",
    "lower": lambda run: f"pseudo_label.score={quantile(run, 0.3)}",
    "area": lambda run: "pseudo_label.min_area=30",
    "rate": lambda run: "pseudo_label.thresholds=rate",
}


@pytest.mark.parametrize("name", CHANGES)
@pytest.mark.parametrize(
    "rules",
    [(), ("refine.overlaps=score", "refine.duplicate_iou=0.5", "refine.gate=drop")],
    ids=["plain", "conflicts"],
)
def test_rethresholding_writes_what_a_full_refinement_would(
    refined, tmp_path, name, rules, request
):
    settings = (*below(refined), *rules)
    change = CHANGES[name](refined)
    full, quick = (refined.copy(tmp_path / kind) for kind in ("full", "quick"))
    perform(quick.run(*settings), Refine())
    first, second = full.run(*settings, change), quick.run(*settings, change)
    assert first.fingerprint(Refine()) == second.fingerprint(Refine())
    before = rows_of(quick.run(*settings))
    wanted = perform(first, Refine())
    request.getfixturevalue("no_segmenter")
    manifest = perform(second, rethresholding())
    assert files_of(second, "refined", "segmented") == files_of(first, "refined", "segmented")
    passes = {"encoder_passes": wanted.counts["encoder_passes"]}  # rethresholding takes none
    assert manifest.counts | passes == wanted.counts
    assert manifest.metrics["thresholds"] == wanted.metrics["thresholds"]
    assert rows_of(second) != before
    assert verify(second.folder(Refine()), manifest) == []
    assert freshness(quick.run(*settings, change), Refine()).state == "fresh"


def test_thresholds_move_on_a_machine_without_the_runs_device(refined, tmp_path, s4m, no_segmenter):
    copy = refined.copy(tmp_path / "run")
    settings = (*below(refined), "pseudo_label.score=0.9", "device=cuda:7")
    code, _, err = s4m("refine", "--rethreshold", "-c", copy.config, *settings)
    assert code == 0, err


def test_structural_targets_are_carried_over(refined, tmp_path, no_segmenter):
    copy = refined.copy(tmp_path / "run")
    run = copy.run(*below(refined), "pseudo_label.score=0.9")
    before = files_of(copy.run(*below(refined)), "structure")
    manifest = perform(run, rethresholding())
    assert files_of(run, "structure") == before
    assert before
    assert manifest.metrics["rethresholded_from"] == copy.run(*below(refined)).fingerprint(Refine())


def test_a_threshold_below_what_was_refined_says_how_many_instances(refined, tmp_path, s4m):
    copy = refined.copy(tmp_path / "run")
    low = quantile(refined, 0.2)
    settings = (f"refine.min_score={low}", "pseudo_label.score=0.02", "pseudo_label.min_area=0")
    run = copy.run(*settings)
    scores = [r["score"] for r in read_table(run.folder(PseudoLabel()), "predictions").to_pylist()]
    count = sum(0.02 < score < low for score in scores)
    assert count
    code, _, err = s4m("refine", "--rethreshold", "-c", copy.config, *settings)
    assert code == 2
    assert f"{count} instances" in err
    assert f"refine.min_score was {low:g}" in err
    assert not run.store.is_complete("refine", run.fingerprint(Refine()))


def test_without_an_earlier_refinement_the_command_that_makes_one_is_named(refined, tmp_path, s4m):
    copy = refined.copy(tmp_path / "run")
    code, _, err = s4m(
        "refine", "--rethreshold", "-c", copy.config, *below(refined), "refine.points=2", "seed=1"
    )
    assert code == 2
    assert "s4m refine -c" in err


@pytest.mark.parametrize("content", ["{", None])
def test_a_refinement_with_a_damaged_manifest_is_no_source(refined, tmp_path, content):
    copy = refined.copy(tmp_path / "run")
    run = copy.run(*below(refined), "pseudo_label.score=0.9")
    for path in (copy.folder / "work" / "refine").glob("*/manifest.json"):
        path.write_text(content or path.read_text().replace('"instances": ', '"instances": 1', 1))
    with pytest.raises(UsageError, match="thresholds alone"):
        StoredMasks().artifact(Refine(), run)


def test_predictions_made_again_are_no_source(refined, tmp_path):
    copy = refined.copy(tmp_path / "run")
    run = copy.run(*below(refined), "pseudo_label.score=0.9")
    path = run.folder(PseudoLabel()) / "manifest.json"
    data = json.loads(path.read_text())
    data["files"][0]["sha256"] = "of another result"
    write_sealed(path, data)
    with pytest.raises(UsageError, match="thresholds alone"):
        StoredMasks().artifact(Refine(), run)


def test_plain_labels_are_rethresholded_from_predictions(finished, tmp_path, no_segmenter):
    settings = ("refine.policy=none", "student.structure_weight=0")
    full, quick = (finished.copy(tmp_path / kind) for kind in ("full", "quick"))
    perform(quick.run(*settings), Refine())
    new = (*settings, "pseudo_label.score=0.9")
    perform(full.run(*new), Refine())
    perform(quick.run(*new), rethresholding())
    assert files_of(quick.run(*new), "refined") == files_of(full.run(*new), "refined")


def test_labels_by_rate_follow_the_labelled_rate(refined, tmp_path):
    copy = refined.copy(tmp_path / "run")
    run = copy.run(*below(refined), "pseudo_label.thresholds=rate", "pseudo_label.min_area=0")
    manifest = perform(run, Refine())
    labelled = run.images.labelled
    names = {c.id: c.name for c in labelled.categories}
    scores = manifest.metrics["thresholds"]["scores"]
    for key, name in names.items():
        if name in manifest.metrics["thresholds"]["pooled"]:
            continue
        count = sum(i.category_id == key for f in labelled.instances.values() for i in f)
        labels = [r for r in rows_of(run) if r["category_id"] == key and r["decision"] != "dropped"]
        assert len(labels) <= round(18 * count / 5)
        if scores[name] > run.config.refine.min_score:
            assert len(labels) == round(18 * count / 5)
    assert manifest.metrics["thresholds"]["how"] == "rate"
    assert "labelled" in manifest.inputs


def test_thresholds_by_precision_come_from_cross_fitted_predictions(refined, tmp_path):
    copy = refined.copy(tmp_path / "run")
    settings = ("pseudo_label.thresholds=precision", "pseudo_label.precision=0.3")
    run = copy.run(*below(refined), *settings, "calibration.iterations=20")
    perform(run, CrossFit())
    manifest = perform(run, rethresholding())
    assert manifest.inputs["cross-fit"] == run.fingerprint(CrossFit())
    assert manifest.metrics["thresholds"]["how"] == "precision"
    chosen = choose_thresholds(run, run.folder(PseudoLabel()), 18)
    assert all(score >= run.config.refine.min_score for score in chosen.scores.values())
    for row in rows_of(run):
        if row["decision"] != "dropped":
            assert row["score"] > chosen.scores[row["category_id"]]


def test_auto_takes_one_score_for_all_from_cross_fitted_predictions(refined, tmp_path):
    copy = refined.copy(tmp_path / "run")
    run = copy.run(*below(refined), "pseudo_label.thresholds=auto", "calibration.iterations=20")
    perform(run, CrossFit())
    manifest = perform(run, rethresholding())
    assert manifest.inputs["cross-fit"] == run.fingerprint(CrossFit())
    assert manifest.metrics["thresholds"]["how"] == "auto"
    (score,) = set(manifest.metrics["thresholds"]["scores"].values())
    assert score >= run.config.refine.min_score
    for row in rows_of(run):
        assert (row["score"] > score) or row["decision"] == "dropped"


def test_auto_that_can_choose_no_score_is_told(refined):
    run = refined.run("pseudo_label.thresholds=auto")
    run.reporter = Listening()
    categories = [category.id for category in run.images.labelled.categories]
    warn_unreached(run, Thresholds(dict.fromkeys(categories, 0.5)))
    assert run.reporter.warned == []
    warn_unreached(run, Thresholds(dict.fromkeys(categories, 1.0)))
    assert "no score can be chosen" in run.reporter.warned[0]


def test_a_precision_out_of_reach_is_told_with_the_class(refined):
    run = refined.run("pseudo_label.thresholds=precision")
    run.reporter = Listening()
    names = [category.name for category in run.images.labelled.categories]
    scores = {category.id: 0.5 for category in run.images.labelled.categories}
    warn_unreached(run, Thresholds(scores))
    assert run.reporter.warned == []
    scores[run.images.labelled.categories[0].id] = 1.0
    warn_unreached(run, Thresholds(scores))
    assert len(run.reporter.warned) == 1
    assert names[0] in run.reporter.warned[0]
    assert names[1] not in run.reporter.warned[0]


def test_fixed_thresholds_ask_for_nothing_more(finished):
    run = finished.run()
    assert Refine().settings(run.config)["score"] == 0.05
    assert set(Refine().upstream(run.config)) == {"predictions"}
    assert "labelled" not in Refine().sources(run)


def test_both_options_together_are_wrong_use(finished, s4m):
    code, _, err = s4m("refine", "--calibrate", "--rethreshold", "-c", finished.config)
    assert code == 2
    assert "choose one" in err


def test_rethreshold_leaves_the_artifact_that_is_there(refined, tmp_path, s4m):
    copy = refined.copy(tmp_path / "run")
    overrides = below(refined)
    run = copy.run(*overrides)
    before = run.store.manifest("refine", run.fingerprint(Refine())).to_dict()
    code, _, err = s4m("refine", "--rethreshold", "--force", "-c", copy.config, *overrides)
    assert (code, "nothing to force" in err) == (2, True)
    assert s4m("refine", "--rethreshold", "-c", copy.config, *overrides)[0] == 0
    assert run.store.manifest("refine", run.fingerprint(Refine())).to_dict() == before


def test_rethresholding_and_refining_share_an_unfinished_folder(refined, tmp_path, no_segmenter):
    """Shards that one of them finished are whole for the other, structural targets included."""
    copy = refined.copy(tmp_path / "run")
    run = copy.run(*below(refined), "pseudo_label.score=0.9")
    whole = perform(run, rethresholding())
    folder = run.folder(Refine())
    (folder / "manifest.json").unlink()
    again = perform(copy.run(*below(refined), "pseudo_label.score=0.9"), Refine())
    assert {f.path: f.sha256 for f in again.files} == {f.path: f.sha256 for f in whole.files}
    assert any(entry.path.startswith("structure/") for entry in again.files)


# What the labels are like


def test_rates_are_instances_an_image_and_faults_are_named():
    rates = rates_of(
        {1: 200, 2: 1, 3: 90, 4: 3},
        images=100,
        labelled={1: 20, 2: 30, 3: 2, 4: 4, 5: 0},
        labelled_images=10,
        names={1: "cat", 2: "dog", 3: "owl", 4: "eel", 5: "yak"},
        decisions={"refined": 250, "kept": 44, "dropped": 106},
    )
    assert rates.total.pseudo_rate == pytest.approx(2.94)
    assert rates.total.labelled_rate == pytest.approx(5.6)
    faults = {rate.name: fault for rate, fault in rates.faults()}
    # 30 dogs in 10 images make 300 in 100: one is almost none; 40 eels: three are far too few;
    # two labelled owls do not prove that 90 are too many
    assert faults == {"dog": "almost none", "eel": "far too few"}
    assert rates.shares == pytest.approx({"refined": 0.625, "kept": 0.11, "dropped": 0.265})
    assert any("dog: almost none, 0.01 pseudo-instances" in text for text in messages(rates))


def test_far_too_many_are_named():
    rates = rates_of({1: 500}, 10, {1: 50}, 10, {1: "cat"}, {"refined": 500})
    assert [fault for _, fault in rates.faults()] == ["far too many"]


def test_a_class_without_labels_is_named_where_it_has_pseudo_labels():
    rates = rates_of({1: 9, 2: 6, 3: 1}, 10, {1: 9}, 10, {1: "cat", 2: "dog", 3: "owl"}, {})
    assert [(rate.name, fault) for rate, fault in rates.faults()] == [("dog", "not labelled")]
    assert messages(rates) == [
        "dog: not labelled, 0.60 pseudo-instances an image against 0.00 labelled"
    ]


class Listening:
    def __init__(self):
        self.said, self.warned = [], []

    def say(self, message):
        self.said.append(message)

    def warn(self, message):
        self.warned.append(message)


def test_the_student_is_told_of_rates_shares_and_classes_without_labels(refined, monkeypatch):
    run = refined.run(*below(refined))
    run.reporter = Listening()
    label_warnings.check_labels(run, run.folder(Refine()), "train-student")
    rates = label_rates(run, run.folder(Refine()))
    counts = read_manifest(run.folder(Refine())).counts
    assert rates.total.pseudo == counts["instances"]
    assert f"{counts['instances'] / 18:.2f} pseudo-instances an image" in run.reporter.said[0]
    assert "% refined" in run.reporter.said[0]
    for category in run.images.labelled.categories:
        assert category.name in run.reporter.said[1]
    assert len(run.reporter.warned) == len(rates.faults()) + bool(rates.faults())


def test_every_class_is_in_the_log_however_many_there_are(refined, monkeypatch):
    names = {n: f"class {n}" for n in range(80)}
    rates = rates_of(dict.fromkeys(names, 30), 10, dict.fromkeys(names, 3), 1, names, {})
    monkeypatch.setattr(label_warnings, "label_rates", lambda run, folder: rates)
    run = refined.run()
    run.reporter = Listening()
    label_warnings.check_labels(run, run.folder(Refine()), "train-student")
    messages = " ".join(run.reporter.said[1:])
    assert all(f"{name} 3.00/3.00" in messages for name in names.values())
    assert max(map(len, run.reporter.said)) < 300


def test_no_label_at_all_stops_the_student(refined, tmp_path):
    copy = refined.copy(tmp_path / "run")
    run = copy.run(*below(refined), "pseudo_label.score=1")
    perform(run, rethresholding())
    with pytest.raises(S4MError, match="not one pseudo-label"):
        label_warnings.check_labels(run, run.folder(Refine()), "train-student")


def test_the_page_says_what_the_log_says(refined, tmp_path, s4m):
    page = tmp_path / "page.html"
    code, _, _ = s4m("report", "-c", refined.config, *below(refined), "--out", page)
    assert code == 0
    text = page.read_text()
    assert "Labels against the labelled rate" in text
    rates = label_rates(refined.run(*below(refined)), refined.run(*below(refined)).folder(Refine()))
    for message in messages(rates):
        assert message.split(",")[0] in text
