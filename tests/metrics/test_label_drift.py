"""Drift of labels against counts and IoU that plain NumPy makes of the masks."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest

from s4m_pipeline.metrics.label_drift import Drift
from s4m_pipeline.metrics.matching import Label
from tests.small_sets import encode, rectangle

SIZE = (40, 60)


def iou(one: np.ndarray, other: np.ndarray) -> float:
    return float((one & other).sum() / (one | other).sum())


def best_pairs(old: list[np.ndarray], new: list[np.ndarray]) -> list[tuple[int, int, float]]:
    """The pairs above one half that have the largest sum of IoU, of all ways to pair masks."""
    wide, narrow = (old, new) if len(old) >= len(new) else (new, old)
    best: list[tuple[int, int, float]] = []
    for order in permutations(range(len(wide)), len(narrow)):
        pairs = [(w, n, iou(wide[w], narrow[n])) for n, w in enumerate(order)]
        pairs = [pair for pair in pairs if pair[2] > 0.5]
        if sum(pair[2] for pair in pairs) > sum(pair[2] for pair in best):
            best = pairs
    return best if wide is old else [(n, w, x) for w, n, x in best]


def test_drift_is_that_of_masks_paired_in_the_best_way() -> None:
    rng = np.random.default_rng(5)
    drift, ious, expected = Drift(), [], {"changed_class": 0, "came": 0, "went": 0}
    for _ in range(40):
        cells = rng.permutation(6)[: rng.integers(1, 6)]
        old = [(int(rng.integers(1, 3)), rectangle(*SIZE, 20 * (c % 3), 20 * (c // 3), 12, 12))
               for c in cells]  # fmt: skip
        new = []
        for category, mask in old:
            if rng.random() < 0.25:
                continue  # it went
            other = category if rng.random() < 0.7 else 3 - category
            new.append((other, np.roll(mask, int(rng.integers(0, 6)), axis=1)))
        free = next(c for c in range(6) if c not in cells)
        if rng.random() < 0.5:
            new.append((1, rectangle(*SIZE, 20 * (free % 3), 20 * (free // 3), 12, 12)))
        labels = [
            [
                Label(c, encode(m), float(s))
                for (c, m), s in zip(of, rng.random(len(of)), strict=True)
            ]
            for of in (old, new)
        ]
        drift.add(labels[0], labels[1], SIZE)
        paired = best_pairs([m for _, m in old], [m for _, m in new])
        same = [x for o, n, x in paired if old[o][0] == new[n][0]]
        ious += same
        expected["changed_class"] += len(paired) - len(same)
        expected["came"] += len(new) - len(paired)
        expected["went"] += len(old) - len(paired)
    figures = drift.figures()
    assert figures.pop("mean_iou") == pytest.approx(np.mean(ious))
    assert figures == {"stayed": len(ious), **expected}
    assert min(expected.values()) > 5


def test_two_classes_at_one_place_that_stay_did_not_change_their_class() -> None:
    mask = encode(rectangle(*SIZE, 3, 3, 20, 20))
    drift = Drift()
    drift.add(
        [Label(1, mask, 0.9), Label(2, mask, 0.8)], [Label(2, mask, 0.9), Label(1, mask, 0.8)], SIZE
    )
    assert drift.figures() == {
        "stayed": 2, "changed_class": 0, "came": 0, "went": 0, "mean_iou": 1.0,
    }  # fmt: skip


def test_no_labels_are_no_drift() -> None:
    drift = Drift()
    drift.add([], [], SIZE)
    assert drift.figures()["mean_iou"] is None
    mask = Label(1, encode(rectangle(*SIZE, 3, 3, 20, 20)), 0.9)
    drift.add([mask], [], SIZE)
    drift.add([], [mask], SIZE)
    assert drift.figures() == {
        "stayed": 0, "changed_class": 0, "came": 1, "went": 1, "mean_iou": None,
    }  # fmt: skip
