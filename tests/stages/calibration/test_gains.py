"""Folds, gains, intervals and the choice, against plain loops."""

import numpy as np
import pytest

from s4m_pipeline.stages.calibration import gains as c


@pytest.mark.parametrize("folds", [2, 3, 5])
@pytest.mark.parametrize("seed", range(5))
def test_folds_hold_as_many_images_and_share_out_every_class(folds, seed):
    generator = np.random.default_rng(seed)
    classes = [list(generator.choice([0, 1, 2], 1, p=[0.7, 0.2, 0.1])) for _ in range(40)]
    classes += [[], []]
    fold_of = c.assign_folds(classes, folds, np.random.default_rng(seed))
    counts = np.bincount(fold_of, minlength=folds)
    assert counts.sum() == 42
    assert counts.max() <= -(-42 // folds)  # none is above the even share
    for key in (0, 1, 2):
        held = [
            sum(classes[n].count(key) for n in np.flatnonzero(fold_of == f)) for f in range(folds)
        ]
        assert max(held) - min(held) <= 2


def test_folds_depend_on_the_generator_alone():
    classes = [[n % 3] for n in range(12)]
    first, second, other = (c.assign_folds(classes, 3, np.random.default_rng(s)) for s in (1, 1, 2))
    assert (first == second).all()
    assert (first != other).any()


def test_as_many_folds_as_images_hold_one_each():
    fold_of = c.assign_folds([[1], [1], [2]], 3, np.random.default_rng(0))
    assert sorted(fold_of) == [0, 1, 2]


def test_the_interval_is_that_of_resampled_images():
    generator = np.random.default_rng(3)
    groups = np.repeat(np.arange(30), generator.integers(1, 5, 30))
    values = generator.normal(0.1, 0.2, len(groups)) + 0.1 * (groups % 3)
    low, high = c.bootstrap_interval(values, groups, np.random.default_rng(0), draws=4000)
    means = []
    for _ in range(4000):  # the plain way
        drawn = generator.integers(0, 30, 30)
        means.append(np.concatenate([values[groups == g] for g in drawn]).mean())
    assert [low, high] == pytest.approx(np.quantile(means, [0.025, 0.975]), abs=0.01)


def test_one_image_alone_has_a_mean_and_no_interval():
    one = c.Measurements(
        np.zeros(2, np.int64), np.ones(2), np.ones(2), np.array(["a", "a"]), np.zeros(2), np.ones(2)
    )
    assert c.gain_of(one, seed=0) == c.Gain(2, 0.0, 1.0, None, None)


def measurements(seed=0):
    """Policy a gains 0.1 for class 1 and loses 0.2 for class 2; b gains a little everywhere."""
    generator = np.random.default_rng(seed)
    rows = []
    for image in range(40):
        key, area = 1 + image % 2, [500, 5000, 50000][image % 3]
        before = generator.uniform(0.4, 0.7)
        rows.append((image, key, area, "a", before, before + (0.1 if key == 1 else -0.2)))
        rows.append((image, key, area, "b", before, before + 0.02))
    columns = list(zip(*rows, strict=True))
    return c.Measurements(
        *(np.array(col, object if n == 3 else None) for n, col in enumerate(columns))
    )


def test_gains_are_plain_means_over_their_rows():
    measured = measurements()
    gains = c.gains_by(measured, [1, 2, 3], seed=0)
    assert list(gains) == ["a", "b"]
    for policy, parts in gains.items():
        own = measured.policy == policy
        gain = parts["all"]["all"]
        assert gain.instances == 40
        assert gain.before == pytest.approx(measured.before[own].mean())
        assert gain.after == pytest.approx(measured.after[own].mean())
        assert gain.low - 1e-9 <= gain.gain <= gain.high + 1e-9
        large = own & (measured.area > 96**2)
        assert parts["size"]["large"].after == pytest.approx(measured.after[large].mean())
    assert gains["a"]["class"][1].gain == pytest.approx(0.1)
    assert gains["a"]["class"][3].instances == 0


def test_the_same_seed_gives_the_same_intervals():
    first, second = (c.gains_by(measurements(), [1, 2], seed=5) for _ in range(2))
    assert first == second


def gain(mean, width):
    """A policy's gains, of which only the overall one is looked at."""
    return {"all": {"all": c.Gain(50, 0.6, 0.6 + mean, mean - width, mean + width)}}


def test_the_best_policy_is_the_one_whose_gain_is_surest():
    gains = {"wild": gain(0.06, 0.05), "sure": gain(0.05, 0.02), "low": gain(0.03, 0.01)}
    assert c.best_policy(gains) == "sure"
    assert (
        c.best_policy({"a": gain(1 / 32, 1 / 64), "b": gain(3 / 64, 1 / 32)}) == "b"
    )  # equal low ends


def test_refinement_is_off_where_it_hurts():
    gains = c.gains_by(measurements(), [1, 2, 3], seed=0)
    assert c.best_policy(gains) == "b"
    overall = gains["a"]["all"]["all"]
    assert overall.gain < 0
    assert c.hurts(gains["a"]["class"][2], overall)
    assert not c.hurts(gains["a"]["class"][1], overall)
    assert c.hurts(gains["a"]["class"][3], overall)  # nothing known: the overall answer
    assert not c.hurts(gains["a"]["class"][3], gains["b"]["all"]["all"])
    few = c.Gain(9, 0.5, 0.4, -0.2, 0.0)
    assert not c.hurts(few, gains["b"]["all"]["all"])
    assert c.hurts(c.Gain(10, 0.5, 0.4, -0.2, 0.0), gains["b"]["all"]["all"])
    same = c.Gain(10, 0.5, 0.5, 0.0, 0.0)  # neither gained nor lost: the overall answer
    assert not c.hurts(same, gains["b"]["all"]["all"])
    assert c.hurts(same, overall)
    assert c.hurts(same, same)


def test_no_measurement_has_no_best_policy():
    assert c.best_policy({}) is None
