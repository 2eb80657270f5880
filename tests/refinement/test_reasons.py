"""Reasons say what their numbers say."""

from __future__ import annotations

import operator
import re

import numpy as np
import pytest

from s4m_pipeline.refinement.reasons import GATE, SENTENCES, Cause, Reason, compared

HOLDS = {"<": operator.lt, "<=": operator.le, ">": operator.gt}


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("score", 0.4, "<=", 0.7), "score 0.40 <= 0.7"),
        (("agreement", 0.2996, "<", 0.3), "agreement 0.2996 < 0.3"),
        (("score", 0.415273001, "<=", 0.415273001), "score 0.42 <= 0.42"),
        (("score", 0.4151, "<=", 0.415273001), "score 0.42 <= 0.42"),
        (("IoU", 0.5049, ">", 0.5), "IoU 0.505 > 0.5"),
        (("area", 4.96, "<=", 5, 1), "area 5.0 <= 5"),
        (("area ratio", 0.9523, "<", 1 / 1.05, 2, "1/1.05"), "area ratio 0.95 < 1/1.05"),
        (("area ratio", 0.7499, "<", 0.75, 2, "1/1.3333"), "area ratio 0.7499 < 1/1.3333"),
    ],
)
def test_as_few_decimals_as_bear_the_comparison_out(arguments, expected):
    assert compared(*arguments) == expected


@pytest.mark.parametrize("sign", HOLDS)
def test_the_numbers_in_a_reason_lie_as_it_says(sign):
    generator = np.random.default_rng(0)
    for limit in generator.random(200):
        for distance in (0.3, 1e-2, 1e-4, 1e-8, 1e-12):
            value = limit + distance if sign == ">" else limit - distance
            left, right = re.fullmatch(
                rf"x (\S+) {sign} (\S+)", compared("x", value, sign, limit)
            ).groups()
            assert HOLDS[sign](float(left), float(right))


def test_every_reason_has_a_sentence_and_its_value_is_what_tables_hold():
    assert SENTENCES.keys() == set(Reason)
    assert {reason.value for reason in Reason} == {
        "score",
        "area",
        "policy_none",
        "not_helped",
        "empty",
        "agreement",
        "area_ratio",
        "duplicate",
        "cut",
        "covered",
        "remnant",
    }
    assert {reason.value for reason in GATE} == {"empty", "agreement", "area_ratio"}


def test_a_sentence_is_made_with_an_instances_numbers():
    assert Cause.of(Reason.CUT, lost=12).sentence == "overlap: 12 px went to higher scores"
    cause = Cause.of(Reason.DUPLICATE, other=3, compared=compared("IoU", 0.91, ">", 0.7))
    assert cause == Cause(Reason.DUPLICATE, "duplicate of instance 3: IoU 0.91 > 0.7")
