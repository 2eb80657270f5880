"""What thresholds are chosen by: against plain loops, nothing at all, and no more than needed."""

import numpy as np
import pyarrow.parquet as pq
import pytest

from s4m_pipeline.artifacts.manifest import read_manifest
from s4m_pipeline.artifacts.tables import read_rows, read_table, write_table
from s4m_pipeline.engine.perform import perform
from s4m_pipeline.engine.stage import label_categories
from s4m_pipeline.labels import scored_predictions
from s4m_pipeline.labels.choose import choose_thresholds
from s4m_pipeline.labels.scored_predictions import judged_predictions, prediction_scores
from s4m_pipeline.stages.calibration.cross_fit import CrossFit
from s4m_pipeline.stages.calibration.held_out import HeldOut
from s4m_pipeline.stages.pseudo_label import PseudoLabel
from s4m_pipeline.stages.refine.rethreshold import rethresholding
from s4m_pipeline.stages.refine.stage import Refine

BY_PRECISION = ("pseudo_label.thresholds=precision", "calibration.iterations=3")


@pytest.fixture(scope="module")
def cross_fitted(finished, workshop_once):
    def cross_fit(workshop):
        perform(workshop.run(*BY_PRECISION), CrossFit())

    return workshop_once("cross-fitted", finished, cross_fit)


@pytest.fixture
def columns_read(monkeypatch):
    """The columns of each reading of predictions."""
    read = []
    real = pq.ParquetFile.read_row_group

    def noting(file, group, columns=None, **settings):
        read.append(columns)
        return real(file, group, columns=columns, **settings)

    monkeypatch.setattr(pq.ParquetFile, "read_row_group", noting)
    return read


def test_without_a_prediction_above_the_floor_no_score_reaches_a_precision(cross_fitted):
    run = cross_fitted.run(*BY_PRECISION, "refine.min_score=1")
    scores, true = judged_predictions(run, run.folder(CrossFit()), 1.0)
    keys = {category.id for category in run.images.labelled.categories}
    assert {key: len(values) for key, values in scores.items()} == dict.fromkeys(keys, 0)
    assert {key: len(values) for key, values in true.items()} == dict.fromkeys(keys, 0)
    chosen = choose_thresholds(run, run.folder(PseudoLabel()), 18)
    assert chosen.scores == dict.fromkeys(keys, 1.0)
    rate = cross_fitted.run("pseudo_label.thresholds=rate", "refine.min_score=1")
    thresholds = choose_thresholds(rate, rate.folder(PseudoLabel()), 18)
    assert thresholds.scores == dict.fromkeys(keys, 1.0)


def test_without_a_prediction_above_the_floor_there_are_no_labels(cross_fitted, tmp_path, s4m):
    copy = cross_fitted.copy(tmp_path / "run")
    floor = "refine.min_score=1"
    perform(copy.run(floor), Refine())
    code, _, err = s4m("refine", "--rethreshold", "-c", copy.config, *BY_PRECISION, floor)
    assert code == 0, err
    assert "no score reaches pseudo_label.precision" in err
    run = copy.run(*BY_PRECISION, floor)
    assert read_manifest(run.folder(rethresholding())).counts["instances"] == 0
    manifest = perform(run, HeldOut(round=1))
    assert manifest.metrics["labels"]["labels"] == 0
    assert manifest.metrics["quality"] == 0


def test_predictions_are_true_that_are_the_first_of_an_instance(finished, tmp_path):
    """Each instance is predicted three times: too small to count, rightly, and once again."""
    run = finished.run("pseudo_label.min_area=1")
    labelled = run.images.labelled
    rows = read_table(run.folder(PseudoLabel()), "predictions").to_pylist()[:1]
    predictions, right, again = [], {}, {}
    for shard, images in enumerate((labelled.images[:2], [], labelled.images[2:])):
        for record in images:
            for n, instance in enumerate(labelled.instances[record.id]):
                one = rows[0] | {"image_id": record.id, "category_id": instance.category_id}
                one |= {"mask_rle": instance.rle, "score": 0.75 + n / 64}
                predictions += [one | {"score": 0.96875, "soft_mask": b"\x09"}, one]
                predictions.append(one | {"score": 0.5 + n / 64})
                right.setdefault(instance.category_id, []).append(0.75 + n / 64)
                again.setdefault(instance.category_id, []).append(0.5 + n / 64)
        path = tmp_path / f"predictions/{shard:05d}.parquet"
        write_table(path, "predictions", predictions, label_categories(labelled.categories))
        predictions = []
    scores, true = judged_predictions(run, tmp_path, 0.3)
    for key in (category.id for category in labelled.categories):
        assert sorted(scores[key][true[key]].tolist()) == sorted(right.get(key, []))
        assert sorted(scores[key][~true[key]].tolist()) == sorted(again.get(key, []))
    high, _ = judged_predictions(run, tmp_path, 0.7)
    assert sum(map(len, high.values())) == sum(map(len, right.values()))


def test_scores_alone_are_read_and_kept_without_the_masks(finished, columns_read):
    folder = finished.run().folder(PseudoLabel())
    scored_predictions._scores.cache_clear()
    category, score = prediction_scores(folder, 0.03, 20.0)
    assert columns_read
    assert all(set(names) == {"category_id", "score", "soft_mask"} for names in columns_read)
    rows = [
        (row["category_id"], row["score"])
        for row in read_table(folder, "predictions").to_pylist()
        if row["score"] > 0.03 and np.frombuffer(row["soft_mask"], np.uint8).sum() / 255 > 20
    ]
    assert list(zip(category.tolist(), score.tolist(), strict=True)) == rows
    columns_read.clear()
    assert prediction_scores(folder, 0.03, 20.0)[1] is score
    assert columns_read == []


def test_some_columns_of_some_images_are_those_of_their_rows(finished, columns_read):
    folder = finished.run().folder(PseudoLabel())
    ids = read_table(folder, "predictions", ["image_id"])["image_id"].to_pylist()
    some = sorted(set(ids))[1:4]
    whole = read_rows(folder, "predictions", some)
    columns_read.clear()
    names = ("image_id", "instance_id", "score")
    rows = read_rows(folder, "predictions", some, names)
    assert rows == [{name: row[name] for name in names} for row in whole]
    assert columns_read == [list(names)] * len(columns_read)
