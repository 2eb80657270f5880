"""Thresholds per class against counting by hand."""

import numpy as np
import pytest

from s4m_pipeline.labels import thresholds as t


def brute_precision(scores, true, precision, floor):
    """Try every score that occurs, and the floor, from below: the first that reaches it."""
    for threshold in [floor, *sorted(s for s in scores if s >= floor)]:
        above = [hit for s, hit in zip(scores, true, strict=True) if s > threshold]
        if above and sum(above) / len(above) >= precision - 1e-9:
            return threshold
    return 1.0


def drawn(seed, count, levels=40):
    generator = np.random.default_rng(seed)
    scores = generator.integers(1, levels, count) / levels  # with ties
    return scores, generator.random(count) < scores


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("precision", [0.3, 0.7, 0.9, 1.0])
def test_precision_threshold_is_the_lowest_that_reaches_it(seed, precision):
    scores, true = drawn(seed, 30)
    threshold = t.precision_threshold(scores, true, precision, 0.2)
    wanted = brute_precision(scores, true, precision, 0.2)
    assert (scores > threshold).sum() == (scores > wanted).sum()
    above = true[scores > threshold]
    assert threshold == 1.0 or above.mean() >= precision - 1e-9
    assert threshold >= 0.2


def test_a_precision_that_nothing_reaches_lets_nothing_through():
    assert t.precision_threshold(np.array([0.9, 0.8]), np.array([False, False]), 0.5, 0.1) == 1.0
    assert t.precision_threshold(np.zeros(0), np.zeros(0, bool), 0.5, 0.1) == 1.0


def test_a_precision_that_everything_reaches_gives_the_floor():
    assert t.precision_threshold(np.array([0.9, 0.4]), np.array([True, True]), 0.9, 0.3) == 0.3


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("wanted", [0, 1, 7, 29, 30, 100])
def test_rate_threshold_lets_through_as_many_as_may_be_and_no_more(seed, wanted):
    scores, _ = drawn(seed, 30)
    threshold = t.rate_threshold(scores, wanted, 0.0)
    through = int((scores > threshold).sum())
    assert through <= wanted
    lower = [s for s in [0.0, *scores] if s < threshold]
    if lower:  # the next lower threshold would let through too many
        assert (scores > max(lower)).sum() > wanted


def test_rates_follow_the_labelled_set_class_by_class():
    generator = np.random.default_rng(0)
    scores = {1: generator.random(500), 2: generator.random(500), 3: generator.random(500)}
    # 20 labelled images: 10 of class 1, 40 of class 2, 2 of class 3; 100 unlabelled images
    thresholds = t.rate_thresholds(scores, 100, {1: 10, 2: 40, 3: 2}, 20, floor=0.05)
    assert (scores[1] > thresholds.scores[1]).sum() == 50
    assert (scores[2] > thresholds.scores[2]).sum() == 200
    assert (scores[3] > thresholds.scores[3]).sum() == 10
    assert thresholds.pooled == (3,)
    assert min(thresholds.scores.values()) >= 0.05


def test_classes_with_few_labelled_instances_follow_their_rate_together():
    generator = np.random.default_rng(1)
    scores = {key: generator.random(300) for key in (1, 2, 3, 4)}
    # 10 labelled images: 2 instances of class 2, 3 of class 3, none of class 4; 50 unlabelled
    thresholds = t.rate_thresholds(scores, 50, {1: 20, 2: 2, 3: 3, 4: 0}, 10, floor=0.0)
    assert thresholds.pooled == (2, 3, 4)
    assert thresholds.scores[2] == thresholds.scores[3] == thresholds.scores[4]
    through = {key: int((scores[key] > thresholds.scores[key]).sum()) for key in scores}
    assert through[1] == 100
    assert through[2] + through[3] + through[4] == 25


def test_no_rate_threshold_is_below_the_floor():
    thresholds = t.rate_thresholds({1: np.array([0.1, 0.2, 0.9])}, 10, {1: 50}, 10, floor=0.3)
    assert thresholds.scores == {1: 0.3}


def test_a_class_known_to_be_false_takes_no_threshold_of_others():
    scores = {1: np.linspace(0.31, 0.99, 100), 2: np.linspace(0.4, 0.9, 20)}
    true = {1: np.arange(100) % 10 > 0, 2: np.zeros(20, bool)}
    thresholds = t.precision_thresholds(scores, true, [1, 2], 0.7, floor=0.3)
    assert thresholds.scores == {1: 0.3, 2: 1.0}
    assert thresholds.pooled == ()


def test_precision_of_a_class_with_few_predictions_is_that_of_all():
    scores = {1: np.linspace(0.4, 0.99, 60), 2: np.array([0.35, 0.95])}
    true = {1: np.arange(60) % 3 > 0, 2: np.array([False, True])}
    thresholds = t.precision_thresholds(scores, true, [1, 2, 3], 0.6, floor=0.3, enough=5)
    assert thresholds.pooled == (2, 3)
    both = np.concatenate([scores[1], scores[2]]), np.concatenate([true[1], true[2]])
    assert thresholds.scores[2] == thresholds.scores[3] == brute_precision(*both, 0.6, 0.3)
    assert thresholds.scores[1] == brute_precision(scores[1], true[1], 0.6, 0.3)


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("instances", [12, 30, 200])
def test_the_best_threshold_has_the_best_f1_of_all_and_is_the_highest_of_these(seed, instances):
    scores, true = drawn(seed, 30)
    threshold = t.best_threshold(scores, true, instances, 0.2)

    def f1(limit):
        precision = true[scores > limit].mean() if (scores > limit).any() else 0.0
        recall = true[scores > limit].sum() / instances
        return 2 * precision * recall / (precision + recall) if precision + recall else 0.0

    tried = [0.2, *(score for score in scores if score >= 0.2)]
    best = max(f1(limit) for limit in tried)
    assert f1(threshold) == pytest.approx(best, abs=1e-12)
    assert not any(f1(limit) > best - 1e-12 for limit in tried if limit > threshold)
    assert threshold >= 0.2


def test_without_a_true_prediction_no_threshold_is_best():
    assert t.best_threshold(np.array([0.9, 0.8]), np.array([False, False]), 4, 0.1) == 1.0
    assert t.best_threshold(np.array([0.9, 0.05]), np.array([False, True]), 4, 0.1) == 1.0
    assert t.best_threshold(np.zeros(0), np.zeros(0, bool), 4, 0.1) == 1.0


def test_one_threshold_is_best_for_all_classes_together():
    scores = {1: np.array([0.9, 0.6]), 2: np.array([0.8, 0.5]), 4: np.array([0.7])}
    true = {1: np.array([True, False]), 2: np.array([True, False]), 4: np.array([True])}
    found = t.best_thresholds(scores, true, [1, 2, 3, 4], 3, 0.3)
    assert found.scores == dict.fromkeys([1, 2, 3, 4], 0.6)
    assert found.pooled == ()
