"""Fusion of the segmenter's masks and the teacher's, against whole-image formulas."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit

from s4m_pipeline.refinement.choice import logits_on
from s4m_pipeline.refinement.fusion import fused_mask
from s4m_pipeline.refinement.instances import TeacherInstance
from s4m_pipeline.refinement.resampling import Window
from s4m_pipeline.refinement.soft_masks import soft_mask_to_pixels
from s4m_pipeline.segmenter.base import Frame
from tests.segmenter.fakes import (
    blob_logits,
    decode_mask,
    encode_mask,
    padded_frame,
    soft_probabilities,
    square_frame,
    teacher_instance,
    whole_logits,
)

SHAPES = [(90, 160), (151, 97), (40, 40), (300, 500)]
FRAMES = [make(*shape) for make in (square_frame, padded_frame) for shape in SHAPES]
PAIRS = [
    (((16, 16), 6.0), ((0.5, 0.5), 0.2)),  # about the same place
    (((16, 16), 3.0), ((0.5, 0.5), 0.4)),  # the segmenter sees a part
    (((3, 3), 4.0), ((0.8, 0.8), 0.1)),  # apart
    (((0, 0), 9.0), ((0.0, 0.0), 0.3)),  # at the image's corner
    (((16, 16), -3.0), ((0.5, 0.5), 0.3)),  # the segmenter sees nothing
]
Disc = tuple[tuple[float, float], float]


def _pair(frame: Frame, ours: Disc, theirs: Disc) -> tuple[np.ndarray, TeacherInstance]:
    """Logits (1, 32, 32) of a disc in cells, and an instance whose place is in shares."""
    rows, columns = -(-frame.height // 4), -(-frame.width // 4)
    centre = (theirs[0][0] * (rows - 1), theirs[0][1] * (columns - 1))
    instance = teacher_instance(frame.height, frame.width, centre, theirs[1] * rows)
    return blob_logits((32, 32), *ours, slope=0.2)[None], instance


def _naive(
    maps: np.ndarray,
    instance: TeacherInstance,
    frame: Frame,
    weight: float,
    threshold: float,
    space: str,
    shares: tuple[float, ...] = (),
) -> np.ndarray:
    """How far above the threshold each pixel of the image is, in float64."""
    ours = np.stack([whole_logits(m, frame, 128).astype(np.float64) for m in maps])
    theirs = soft_probabilities(instance, frame.height, frame.width)
    if space == "logits":
        theirs = np.clip(theirs, 0.5 / 255, 1 - 0.5 / 255)
        ours = np.average(ours, axis=0, weights=shares or None)
        mean = weight * np.log(theirs / (1 - theirs)) + (1 - weight) * ours
        return mean - np.log(threshold / (1 - threshold))
    ours = np.average(1 / (1 + np.exp(-ours)), axis=0, weights=shares or None)
    return weight * theirs + (1 - weight) * ours - threshold


def _check(found: bytes, above: np.ndarray, frame: Frame) -> np.ndarray:
    """The found mask, which may differ only where the formula is at the threshold itself."""
    mask = decode_mask(found, frame.height, frame.width)
    differs = mask != (above > 0)
    assert np.abs(above[differs]).max(initial=0) < 1e-5
    assert differs.mean() < 1e-3
    return mask


@pytest.mark.parametrize("frame", FRAMES)
@pytest.mark.parametrize(("ours", "theirs"), PAIRS)
def test_defaults_equal_the_whole_image_formula(frame: Frame, ours: Disc, theirs: Disc) -> None:
    maps, instance = _pair(frame, ours, theirs)
    above = _naive(maps, instance, frame, 0.5, 0.5, "probabilities")
    _check(fused_mask(maps, instance, frame, 128), above, frame)


@pytest.mark.parametrize("frame", [FRAMES[0], FRAMES[5]])
@pytest.mark.parametrize(("ours", "theirs"), PAIRS)
@pytest.mark.parametrize("space", ["probabilities", "logits"])
@pytest.mark.parametrize(
    ("weight", "threshold"),
    [(0, 0.5), (1, 0.5), (0.5, 0.3), (0.5, 0.8), (0.25, 0.5), (0.8, 0.35), (0.1, 0.95), (0.6, 0.6)],
)
def test_weight_threshold_and_space(
    frame: Frame, ours: Disc, theirs: Disc, space: str, weight: float, threshold: float
) -> None:
    maps, instance = _pair(frame, ours, theirs)
    above = _naive(maps, instance, frame, weight, threshold, space)
    _check(fused_mask(maps, instance, frame, 128, weight, threshold, space), above, frame)


@pytest.mark.parametrize("space", ["probabilities", "logits"])
@pytest.mark.parametrize("threshold", [0.001, 0.5, 0.999])
@pytest.mark.parametrize("weight", [0.3, 0.5])
def test_mean_of_several_prompts(space: str, threshold: float, weight: float) -> None:
    frame = square_frame(90, 160)
    maps, instance = _pair(frame, *PAIRS[0])
    rng = np.random.default_rng(0)
    others = [blob_logits((32, 32), (12, 20), 7), rng.normal(size=(32, 32)).astype(np.float32)]
    maps = np.stack([maps[0], *others])
    above = _naive(maps, instance, frame, weight, threshold, space)
    mask = _check(fused_mask(maps, instance, frame, 128, weight, threshold, space), above, frame)
    if threshold == 0.5:
        assert mask.any()
        alone = fused_mask(maps[:1], instance, frame, 128, weight, threshold, space)
        assert not np.array_equal(decode_mask(alone, 90, 160), mask)


@pytest.mark.parametrize("space", ["probabilities", "logits"])
@pytest.mark.parametrize("shares", [(1, 1, 1), (3, 1, 0.5), (0, 0, 2)])
def test_prompts_count_by_their_weights(space: str, shares: tuple[float, ...]) -> None:
    frame = square_frame(90, 160)
    maps, instance = _pair(frame, *PAIRS[0])
    others = [blob_logits((32, 32), (12, 20), 7), blob_logits((32, 32), (20, 12), 9)]
    maps = np.stack([maps[0], *others])
    above = _naive(maps, instance, frame, 0.3, 0.5, space, shares)
    found = fused_mask(maps, instance, frame, 128, 0.3, 0.5, space, shares)
    assert _check(found, above, frame).any()
    equal = fused_mask(maps, instance, frame, 128, 0.3, 0.5, space)
    assert (found == equal) == (shares == (1, 1, 1))


@pytest.mark.parametrize("frame", FRAMES)
@pytest.mark.parametrize(("ours", "theirs"), PAIRS)
def test_defaults_equal_the_sum_above_one_to_the_byte(
    frame: Frame, ours: Disc, theirs: Disc
) -> None:
    """The rule in its simplest form, on all pixels: both probabilities together above 1."""
    maps, instance = _pair(frame, ours, theirs)
    height, width = frame.height, frame.width
    rates = (32 / 128 * frame.valid_height / height, 32 / 128 * frame.valid_width / width)
    soft = (instance.soft_mask, instance.soft_mask_box, instance.stride)
    total = expit(logits_on(maps[0], rates, Window(0, 0, width, height)))
    total = total + soft_mask_to_pixels(*soft, height, width)
    assert total.dtype == np.float32
    assert fused_mask(maps, instance, frame, 128) == encode_mask(total > 1)


def test_fusion_without_a_soft_mask_is_empty() -> None:
    frame = square_frame(40, 60)
    instance = teacher_instance(40, 60, (5, 5), 2)
    instance.soft_mask = np.zeros((0, 0), np.uint8)
    instance.soft_mask_box = (0, 0, 0, 0)
    maps = np.full((1, 32, 32), 9, np.float32)
    assert not decode_mask(fused_mask(maps, instance, frame, 128), 40, 60).any()
    assert decode_mask(fused_mask(maps, instance, frame, 128, 0.4), 40, 60).all()
