"""Negative points, a second pass and several prompts, against prompts put together by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from s4m_pipeline.refinement.ask import RefinePolicy, TeacherInstance, refine_images
from s4m_pipeline.refinement.choice import segmenter_mask
from s4m_pipeline.refinement.fusion import fused_mask
from s4m_pipeline.refinement.negatives import negative_points
from s4m_pipeline.refinement.prompts import teacher_frame_logits
from tests.segmenter.fakes import (
    PromptedSegmenter,
    decode_mask,
    soft_probabilities,
    square_frame,
    teacher_instance,
    whole_logits,
)

SIZE = (96, 128)


def _asked_alone(
    segmenter: PromptedSegmenter,
    instances: list[TeacherInstance],
    row: int,
    kind: str,
    multimask: bool,
    negatives: int = 0,
    mask: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The segmenter's answer to one instance's prompt, put together by hand."""
    own = instances[row]
    x, y, w, h = own.bbox
    box = None if kind == "points" else np.array([x, y, x + w, y + h], np.float32)
    points = own.points[:2] if "points" in kind else own.points[:0]
    labels = [1] * len(points)
    if negatives:
        away, kinds = negative_points(instances, negatives, *SIZE)
        points = np.concatenate([points, away[row]])
        labels += kinds[row].tolist()
    frame = square_frame(*SIZE)
    return segmenter.answer(frame, points, np.array(labels), box, mask, multimask)


def _neighbours() -> list[TeacherInstance]:
    places = [((8, 8), 4), ((12, 15), 4), ((16, 24), 5)]
    return [teacher_instance(*SIZE, place, r, n) for n, (place, r) in enumerate(places)]


@pytest.mark.parametrize("kind", ["points", "box", "box+points"])
def test_negative_points_reach_the_segmenter(kind: str) -> None:
    segmenter, instances = PromptedSegmenter(), _neighbours()
    embeddings = segmenter.encode([np.zeros((*SIZE, 3), np.uint8)])
    plain, negative = (
        refine_images(
            segmenter, embeddings, [instances], RefinePolicy(kind, 2, "single", 0, count)
        )[0]
        for count in (0, 2)
    )
    for row in range(3):
        logits, scores = _asked_alone(segmenter, instances, row, kind, False, 2)
        assert negative[row].candidate_ious == pytest.approx(scores.tolist())
        expected = segmenter_mask(logits[0].numpy(), square_frame(*SIZE), 128)
        assert negative[row].mask_rle == expected
    assert [m.mask_rle for m in plain] != [m.mask_rle for m in negative]


@pytest.mark.parametrize("candidate", ["argmax-iou", "closest", "single", "fuse"])
def test_second_pass_prompts_with_the_first_mask(candidate: str) -> None:
    segmenter, instances = PromptedSegmenter(), _neighbours()
    embeddings = segmenter.encode([np.zeros((*SIZE, 3), np.uint8)])
    rules = RefinePolicy("points", 2, candidate, 0.0, second_pass=True)
    (found,) = refine_images(segmenter, embeddings, [instances], rules)
    assert segmenter.decodes == 2
    frame = square_frame(*SIZE)
    multimask = candidate in ("argmax-iou", "closest")
    for row, instance in enumerate(instances):
        first, scores = _asked_alone(segmenter, instances, row, "points", multimask)
        pick = int(scores.argmax())
        if candidate == "closest":
            theirs = teacher_frame_logits([instance], frame, 128, 32)[0] > 0
            shared = [((m > 0) & theirs).sum() / ((m > 0) | theirs).sum() for m in first]
            pick = int(np.argmax(shared))
        prompt = first[pick].clamp(-32, 32)
        second, scores = _asked_alone(segmenter, instances, row, "points", False, mask=prompt)
        expected = segmenter_mask(second[0].numpy(), frame, 128)
        if candidate == "fuse":
            expected = fused_mask(second.numpy(), instance, frame, 128)
        assert found[row].mask_rle == expected
        assert found[row].candidate_ious == pytest.approx(scores.tolist())
        assert found[row].candidate == (-1 if candidate == "fuse" else 0)


@pytest.mark.parametrize("space", ["probabilities", "logits"])
def test_several_prompts_are_fused_pixel_by_pixel(space: str) -> None:
    segmenter, instances = PromptedSegmenter(), _neighbours()
    embeddings = segmenter.encode([np.zeros((*SIZE, 3), np.uint8)])
    rules = RefinePolicy(
        "points",
        2,
        "fuse",
        0.0,
        fuse_prompts=("box", "box+mask"),
        fuse_weight=0.4,
        fuse_threshold=0.55,
        fuse_space=space,
    )
    (found,) = refine_images(segmenter, embeddings, [instances], rules)
    assert segmenter.decodes == 3
    frame = square_frame(*SIZE)
    for row, instance in enumerate(instances):
        mask = teacher_frame_logits([instance], frame, 128, 32)[0, 0]
        asked = [("points", None), ("box", None), ("box+mask", mask)]
        answers = [
            _asked_alone(segmenter, instances, row, k, False, mask=prompt) for k, prompt in asked
        ]
        ours = np.stack([whole_logits(a[0][0].numpy(), frame, 128) for a in answers])
        theirs = soft_probabilities(instance, *SIZE)
        if space == "logits":
            odds = np.clip(theirs, 0.5 / 255, 1 - 0.5 / 255)
            total = 0.4 * np.log(odds / (1 - odds)) + 0.6 * ours.mean(0) - np.log(0.55 / 0.45)
        else:
            total = 0.4 * theirs + 0.6 * (1 / (1 + np.exp(-ours))).mean(0) - 0.55
        differs = decode_mask(found[row].mask_rle, *SIZE) != (total > 0)
        assert np.abs(total[differs]).max(initial=0) < 1e-5
        assert (total > 0).any()
        assert found[row].candidate_ious == pytest.approx([float(a[1][0]) for a in answers])
        assert (found[row].candidate, found[row].decision) == (-1, "refined")


def test_further_prompts_are_only_asked_where_masks_are_fused() -> None:
    segmenter, instances = PromptedSegmenter(), _neighbours()
    embeddings = segmenter.encode([np.zeros((*SIZE, 3), np.uint8)])
    plain, more = (
        refine_images(
            segmenter,
            embeddings,
            [instances],
            RefinePolicy("points", 2, "single", 0.0, fuse_prompts=extra),
        )
        for extra in ((), ("box",))
    )
    assert plain == more
    assert segmenter.decodes == 2
