"""Prompt policies: coordinates, labels, and the teacher's mask in the model's frame."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import map_coordinates

from s4m_pipeline.errors import UsageError
from s4m_pipeline.refinement.prompts import build_prompts, teacher_frame_logits
from s4m_pipeline.segmenter.base import Frame
from tests.segmenter.fakes import padded_frame, square_frame, teacher_instance

HEIGHT, WIDTH = 60, 100


def _instances() -> list:
    return [
        teacher_instance(HEIGHT, WIDTH, (5, 6), 3, 0),
        teacher_instance(HEIGHT, WIDTH, (9, 20), 4, 1),
    ]


def test_points_are_the_stored_ones_in_order() -> None:
    instances = _instances()
    prompts = build_prompts(instances, "points", 2, torch.zeros(2, 1, 32, 32))
    assert prompts.points.shape == (2, 2, 2)
    for row, instance in zip(prompts.points, instances, strict=True):
        assert np.array_equal(row, instance.points[:2])
    assert np.array_equal(prompts.labels, np.ones((2, 2)))
    assert prompts.boxes is None
    assert prompts.masks is None


def test_boxes_are_corners() -> None:
    instances = _instances()
    prompts = build_prompts(instances, "box", 3, torch.zeros(2, 1, 32, 32))
    assert prompts.points.shape == (2, 0, 2)
    assert prompts.labels.shape == (2, 0)
    assert prompts.boxes is not None
    for corners, instance in zip(prompts.boxes, instances, strict=True):
        x, y, w, h = instance.bbox
        assert corners.tolist() == [x, y, x + w, y + h]


def test_box_with_mask_and_box_with_points() -> None:
    logits = torch.randn(2, 1, 32, 32)
    with_mask = build_prompts(_instances(), "box+mask", 3, logits)
    assert with_mask.masks is logits
    assert with_mask.points.shape == (2, 0, 2)
    with_points = build_prompts(_instances(), "box+points", 3, logits)
    assert with_points.masks is None
    assert with_points.boxes is not None
    assert with_points.points.shape == (2, 3, 2)


def test_a_mask_prompt_without_logits_is_refused() -> None:
    with pytest.raises(ValueError, match="box\\+mask needs the teacher's logits"):
        build_prompts(_instances(), "box+mask", 3)
    assert build_prompts(_instances(), "box+points", 3).masks is None


def test_no_instances_make_empty_prompts() -> None:
    prompts = build_prompts([], "box+points", 3, torch.zeros(0, 1, 32, 32))
    assert len(prompts) == 0
    assert prompts.boxes is not None
    assert prompts.boxes.shape == (0, 4)


def test_wrong_policy_and_too_many_points() -> None:
    logits = torch.zeros(2, 1, 32, 32)
    with pytest.raises(UsageError, match=r"unknown refine\.policy 'boxes'"):
        build_prompts(_instances(), "boxes", 3, logits)
    with pytest.raises(UsageError, match=r"refine\.points is 9, but the pseudo-labels store 3"):
        build_prompts(_instances(), "points", 9, logits)


@pytest.mark.parametrize("frame", [square_frame(HEIGHT, WIDTH), padded_frame(HEIGHT, WIDTH)])
def test_frame_carries_points_to_the_model(frame: Frame) -> None:
    found = frame.to_model(np.array([[[WIDTH, HEIGHT], [0, 0], [50, 15]]]))
    assert found.dtype == np.float32
    expected: list[list[float]] = [
        [frame.valid_width, frame.valid_height],
        [0, 0],
        [50 * frame.valid_width / WIDTH, 15 * frame.valid_height / HEIGHT],
    ]
    np.testing.assert_allclose(found[0], expected, rtol=1e-6)


@pytest.mark.parametrize("frame", [square_frame(HEIGHT, WIDTH), padded_frame(HEIGHT, WIDTH)])
def test_teacher_logits_lie_in_the_model_frame(frame: Frame) -> None:
    instances = _instances()
    found = teacher_frame_logits(instances, frame, 128, 32)
    assert found.shape == (2, 1, 32, 32)
    assert found.dtype == torch.float32
    for logits, instance in zip(found, instances, strict=True):
        x, y, w, h = instance.soft_mask_box
        whole = np.zeros((15, 25))
        whole[y : y + h, x : x + w] = instance.soft_mask / 255
        rows, columns = np.mgrid[:32, :32] * 4.0 + 2.0
        at = [
            rows * HEIGHT / frame.valid_height / instance.stride - 0.5,
            columns * WIDTH / frame.valid_width / instance.stride - 0.5,
        ]
        expected = map_coordinates(whole, at, order=1, mode="nearest")
        expected[(rows >= frame.valid_height) | (columns >= frame.valid_width)] = 0
        np.testing.assert_allclose(torch.sigmoid(logits[0]), expected, atol=0.5 / 255 + 1e-5)
        assert logits.abs().max() < 6.3
        assert (logits > 0).any()
