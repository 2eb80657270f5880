"""Negative points, against loops over full-size masks."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from s4m_pipeline.refinement.instances import TeacherInstance
from s4m_pipeline.refinement.negatives import box_gaps, negative_points
from s4m_pipeline.refinement.prompts import build_prompts
from tests.segmenter.fakes import decode_mask, teacher_instance

SIZE = (96, 128)


def _crowd(count: int = 7) -> list[TeacherInstance]:
    rng = np.random.default_rng(3)
    return [
        teacher_instance(*SIZE, (rng.uniform(2, 22), rng.uniform(2, 30)), rng.uniform(2, 6), n)
        for n in range(count)
    ]


def _gap(a: tuple[float, ...], b: tuple[float, ...]) -> float:
    """Smallest distance between the corners and edges of two boxes, by their intervals."""
    dx = max(b[0] - (a[0] + a[2]), a[0] - (b[0] + b[2]), 0)
    dy = max(b[1] - (a[1] + a[3]), a[1] - (b[1] + b[3]), 0)
    return float((dx * dx + dy * dy) ** 0.5)


def _naive(instances: list[TeacherInstance], row: int, count: int) -> list[tuple[float, float]]:
    own = instances[row]
    mask = decode_mask(own.mask_rle, *SIZE)
    masks = [decode_mask(i.mask_rle, *SIZE) for i in instances]
    shared = [(mask & m).sum() / max(1, min(mask.sum(), m.sum())) for m in masks]
    others = [n for n in range(len(instances)) if n != row and shared[n] <= 0.5]
    others.sort(key=lambda n: (_gap(own.bbox, instances[n].bbox), n))
    found = []
    for turn in range(max(len(i.points) for i in instances)):
        for n in others:
            if turn < len(instances[n].points):
                x, y = instances[n].points[turn].tolist()
                if not mask[int(y), int(x)]:
                    found.append((x, y))
    return found[:count]


def test_a_second_prediction_of_the_same_object_gives_no_negative_point() -> None:
    first, far = _crowd(2)
    second = replace(first, points=first.points + 3, instance_id=9)
    points, labels = negative_points([first, second, far], 50, *SIZE)
    theirs = {tuple(point) for point in far.points.tolist()}
    for row in (0, 1):
        found = {tuple(point) for point in points[row][labels[row] == 0].tolist()}
        assert found
        assert found <= theirs


def test_predictions_that_are_no_neighbours_give_no_negative_point() -> None:
    instances = _crowd(5)
    instances[1].is_neighbour = instances[3].is_neighbour = False
    points, labels = negative_points(instances, 4, *SIZE)
    theirs = np.concatenate([instances[n].points for n in (1, 3)])
    for row in range(5):
        for point in points[row][labels[row] == 0]:
            assert not (theirs == point).all(1).any()
    others = [i for n, i in enumerate(instances) if n != 3]
    assert (negative_points(others, 4, *SIZE)[0][0] == points[0]).all()


@pytest.mark.parametrize("count", [1, 4, 100])
def test_nearest_neighbours_first_and_never_inside_the_own_mask(count: int) -> None:
    instances = _crowd()
    instances[2].points = instances[2].points[:1]
    points, labels = negative_points(instances, count, *SIZE)
    assert points.shape == (7, count, 2)
    assert labels.shape == (7, count)
    left_out = 0
    for row in range(7):
        expected = _naive(instances, row, count)
        assert labels[row].tolist() == [0] * len(expected) + [-1] * (count - len(expected))
        assert [tuple(p) for p in points[row, : len(expected)].tolist()] == expected
        assert not points[row, len(expected) :].any()
        left_out += sum(len(i.points) for i in instances) - len(instances[row].points)
        left_out -= len(_naive(instances, row, 1000))
    assert left_out > 0  # some neighbours' points do lie in the own mask


def test_box_gaps_of_boxes_apart_touching_and_nested() -> None:
    boxes = np.array([[0, 0, 10, 10], [13, 14, 5, 5], [10, 0, 3, 3], [2, 2, 4, 4]], float)
    expected = [[_gap(tuple(a), tuple(b)) for b in boxes] for a in boxes]
    np.testing.assert_allclose(box_gaps(boxes), expected)
    assert box_gaps(boxes)[0].tolist() == [0, 5, 0, 0]


def test_one_instance_or_none_has_no_neighbours() -> None:
    for instances in (_crowd(1), []):
        points, labels = negative_points(instances, 3, *SIZE)
        assert points.shape == (len(instances), 3, 2)
        assert (labels == -1).all()
    assert negative_points(_crowd(3), 0, *SIZE)[0].shape == (3, 0, 2)


@pytest.mark.parametrize("policy", ["points", "box", "box+mask", "box+points"])
def test_prompts_hold_them_after_the_positive_points_without_empty_columns(policy: str) -> None:
    instances = [teacher_instance(*SIZE, (4, 4), 3, 0), teacher_instance(*SIZE, (18, 25), 3, 1)]
    instances[1].points = instances[1].points[:2]
    negatives = negative_points(instances, 5, *SIZE)
    prompts = build_prompts(instances, policy, 2, torch.zeros(2, 1, 32, 32), negatives)
    own = 2 if "points" in policy else 0
    assert prompts.points.shape == (2, own + 3, 2)
    assert prompts.labels.tolist() == [[1] * own + [0, 0, -1], [1] * own + [0, 0, 0]]
    assert np.array_equal(prompts.points[0, own : own + 2], instances[1].points)
    assert np.array_equal(prompts.points[1, own:], instances[0].points)
    assert prompts.labels.dtype == np.int32
    alone = negative_points(instances[:1], 5, *SIZE)
    assert build_prompts(
        instances[:1], policy, 2, torch.zeros(1, 1, 32, 32), alone
    ).points.shape == (1, own, 2)
