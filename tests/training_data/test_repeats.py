"""Repeat factors against the formula written out, and the order that they give."""

from __future__ import annotations

import math
from collections import Counter
from itertools import islice, pairwise

import numpy as np
import pytest

from s4m_pipeline.models.openmmlab import prepare

prepare()

from s4m_pipeline.training_data.repeats import RepeatedOrder, repeat_factors  # noqa: E402
from s4m_pipeline.training_data.samplers import MixedSampler  # noqa: E402

CLASSES = [[0, 0, 1], [0], [0, 2], [], [0, 1], [1, 1], [0], [0], [0], [3, 0]]


def by_hand(threshold: float) -> list[float]:
    """Each image's factor, one class after the other."""
    expected = []
    for own in CLASSES:
        factor = 1.0
        for name in own:
            share = sum(name in other for other in CLASSES) / len(CLASSES)
            factor = max(factor, math.sqrt(threshold / share))
        expected.append(factor)
    return expected


@pytest.mark.parametrize("threshold", [1e-9, 0.2, 0.5, 1.0, 10.0])
def test_factors_are_the_root_of_the_threshold_over_the_share(threshold: float) -> None:
    assert repeat_factors(CLASSES, threshold) == pytest.approx(by_hand(threshold))


def test_the_papers_threshold_repeats_every_image_that_has_an_instance() -> None:
    factors = repeat_factors(CLASSES, 10.0)
    assert factors[3] == 1.0, "an image without instances comes once"
    assert factors[1] == pytest.approx(math.sqrt(10 / 0.8))
    assert factors[9] == pytest.approx(math.sqrt(10 / 0.1)) == pytest.approx(10)
    assert (np.delete(factors, 3) >= math.sqrt(10)).all()


def passes(factors: np.ndarray, count: int, seed: int = 0) -> list[Counter[int]]:
    """How often each image comes in each of the first passes."""
    order = RepeatedOrder(factors, seed, "labelled")
    order.at(200_000)
    ends = [0, *order._ends[:count]]
    return [Counter(order.at(place) for place in range(*pair)) for pair in pairwise(ends)]


def test_each_pass_rounds_up_or_down_and_the_mean_is_the_factor() -> None:
    factors = repeat_factors(CLASSES, 10.0)
    counted = passes(factors, 400)
    table = np.array([[one[image] for image in range(len(CLASSES))] for one in counted])
    assert (table >= np.floor(factors)).all()
    assert (table <= np.ceil(factors)).all()
    assert table.min() >= 1
    assert table.mean(0) == pytest.approx(factors, abs=0.09)
    assert len({tuple(row) for row in table}) > 50


class _Mixed:
    labelled_count = len(CLASSES)

    def __len__(self) -> int:
        return len(CLASSES) + 7


def sampler(factors: np.ndarray | None, seed: int = 0, start: int = 0) -> MixedSampler:
    return MixedSampler(
        _Mixed(), batch_size=5, unlabelled=2, seed=seed, start=start, factors=factors
    )


def test_a_restart_goes_on_with_the_same_sequence() -> None:
    factors = repeat_factors(CLASSES, 10.0)
    whole = list(islice(sampler(factors), 1000))
    for start in (0, 5, 35, 330, 995):
        assert list(islice(sampler(factors, start=start), 1000 - start)) == whole[start:]
    assert list(islice(sampler(factors, seed=1), 1000)) != whole


def test_factors_change_the_labelled_side_alone_and_those_of_one_change_nothing() -> None:
    plain = list(islice(sampler(None), 1000))
    assert list(islice(sampler(np.ones(len(CLASSES))), 1000)) == plain
    repeated = list(islice(sampler(repeat_factors(CLASSES, 10.0)), 1000))
    side = len(CLASSES)
    assert [i for i in repeated if i[0] >= side] == [i for i in plain if i[0] >= side]
    shares = Counter(index for index, _ in repeated if index < side)
    assert shares[9] > 2.2 * shares[1] > 2.2 * shares[3]


def test_there_is_a_factor_for_each_labelled_image() -> None:
    with pytest.raises(ValueError, match="3 factors for 10 labelled images"):
        sampler(np.ones(3))
