"""Refinement as a whole: decisions, the gate, and one record an instance."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from s4m_pipeline.errors import UsageError
from s4m_pipeline.refinement import ask as refinement
from s4m_pipeline.refinement.ask import (
    RefinedMask,
    RefinePolicy,
    TeacherInstance,
    ask_whole,
    refine_images,
)
from s4m_pipeline.refinement.prompts import teacher_frame_logits
from s4m_pipeline.segmenter.base import Embeddings, Segmenter
from s4m_pipeline.segmenter.build import build_segmenter
from tests.segmenter.fakes import (
    ToldSegmenter,
    blob_logits,
    decode_mask,
    teacher_instance,
    whole_logits,
)

SIZE = (96, 128)


def _scene() -> tuple[ToldSegmenter, Embeddings, list[list[TeacherInstance]]]:
    """Two images: two instances and none. In the model's frame they are discs of radius ~5 and 3.

    The second instance's candidates are: elsewhere, far too large, empty.
    """
    instances = [
        teacher_instance(*SIZE, (12, 16), 5, 0),
        teacher_instance(*SIZE, (6, 24), 3, 1),
    ]
    first = [blob_logits((32, 32), (16, 16), r) for r in (5.5, 9, 2)]
    second = [
        blob_logits((32, 32), (28, 3), 3),
        blob_logits((32, 32), (8, 24), 14),
        blob_logits((32, 32), (8, 24), -1),
    ]
    logits = torch.from_numpy(np.stack([np.stack(first), np.stack(second)]))
    ious = torch.tensor([[0.5, 0.8, 0.6], [0.1, 0.2, 0.9]])
    segmenter = ToldSegmenter([logits, logits[:0]], [ious, ious[:0]])
    images = [np.zeros((*SIZE, 3), np.uint8), np.zeros((50, 40, 3), np.uint8)]
    return segmenter, segmenter.encode(images), [instances, []]


@pytest.fixture(scope="module")
def real() -> Segmenter:
    return build_segmenter("sam2.1_hiera_tiny", "random", 64, "cpu")


def _naive_iou(a: np.ndarray, b: np.ndarray) -> float:
    return (a & b).sum() / max((a | b).sum(), 1)


@pytest.mark.parametrize(
    ("prompts", "candidate", "asked"),
    [
        ("points", "argmax-iou", False),
        ("box+points", "fuse", False),
        ("points", "closest", True),
        ("box+mask", "single", True),
    ],
)
def test_the_teachers_logits_are_made_where_something_looks_at_them(
    prompts: str, candidate: str, asked: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[int] = []

    def counting(instances: list[TeacherInstance], *where: Any) -> torch.Tensor:
        made.append(len(instances))
        return teacher_frame_logits(instances, *where)

    monkeypatch.setattr(refinement, "teacher_frame_logits", counting)
    refine_images(*_scene(), RefinePolicy(prompts, 3, candidate, 0.0))
    assert made == ([2, 0] if asked else [])


def test_argmax_iou_takes_the_best_scored() -> None:
    segmenter, embeddings, instances = _scene()
    found, none = refine_images(
        segmenter, embeddings, instances, RefinePolicy("points", 3, "argmax-iou", 0.0)
    )
    assert none == []
    assert [r.candidate for r in found] == [1, -1]
    np.testing.assert_allclose(found[0].candidate_ious, [0.5, 0.8, 0.6], rtol=1e-6)
    mask = decode_mask(found[0].mask_rle, *SIZE)
    frame = embeddings.frames[0]
    expected = whole_logits(segmenter.logits[0][0, 1].numpy(), frame, 128) > 0
    assert np.array_equal(mask, expected)
    old = decode_mask(instances[0][0].mask_rle, *SIZE)
    assert found[0].agreement == pytest.approx(_naive_iou(mask, old))
    assert found[0].area == mask.sum()
    assert found[0].area_ratio == pytest.approx(mask.sum() / old.sum())
    rows, columns = np.argwhere(mask).min(0), np.argwhere(mask).max(0)
    assert found[0].bbox == (
        rows[1],
        rows[0],
        columns[1] - rows[1] + 1,
        columns[0] - rows[0] + 1,
    )
    assert (found[0].decision, found[0].reason) == ("refined", "")
    assert found[0].reason_code == ""


def test_an_empty_mask_keeps_the_teachers() -> None:
    segmenter, embeddings, instances = _scene()
    policy = RefinePolicy("points", 3, "argmax-iou", 0.0)
    kept = refine_images(segmenter, embeddings, instances, policy)[0][1]
    teacher = instances[0][1]
    assert (kept.decision, kept.reason) == ("kept", "the segmenter's mask is empty")
    assert kept.reason_code == "empty"
    assert kept.mask_rle == teacher.mask_rle
    assert kept.bbox == teacher.bbox
    assert kept.area == decode_mask(teacher.mask_rle, *SIZE).sum()
    assert (kept.agreement, kept.area_ratio) == (0, 0)


def test_gate_keeps_the_teachers_mask() -> None:
    segmenter, embeddings, instances = _scene()
    open_gate, shut = (
        refine_images(segmenter, embeddings, instances, RefinePolicy("box", 3, "closest", limit))[0]
        for limit in (0.0, 0.3)
    )
    assert [r.candidate for r in open_gate] == [0, 1]
    assert [r.decision for r in shut] == ["refined", "kept"]
    assert open_gate[1].decision == "refined"
    assert shut[1].reason == f"agreement {open_gate[1].agreement:.2f} < 0.3"
    assert shut[1].reason_code == "agreement"
    assert shut[1].agreement == open_gate[1].agreement < 0.3
    assert shut[1].area_ratio == open_gate[1].area_ratio > 1
    assert shut[1].mask_rle == instances[0][1].mask_rle
    assert shut[0] == open_gate[0]
    edge = RefinePolicy("box", 3, "closest", open_gate[0].agreement)
    assert refine_images(segmenter, embeddings, instances, edge)[0][0].decision == "refined"


def test_gate_on_the_area_goes_both_ways() -> None:
    segmenter, embeddings, instances = _scene()
    ratios: dict[float | None, list[float]] = {}
    found: dict[float | None, list[RefinedMask]] = {}
    for limit in (None, 1.05, 4.0, 1e6):
        rules = RefinePolicy("box", 3, "closest", 0.0, max_area_ratio=limit)
        found[limit] = refine_images(segmenter, embeddings, instances, rules)[0]
        ratios[limit] = [mask.area_ratio for mask in found[limit]]
    masks = [decode_mask(mask.mask_rle, *SIZE) for mask in found[None]]
    olds = [decode_mask(instance.mask_rle, *SIZE) for instance in instances[0]]
    expected = [new.sum() / old.sum() for new, old in zip(masks, olds, strict=True)]
    assert expected[1] > 4
    assert 1 / 4 < expected[0] < 1 / 1.05
    for limit in (None, 1.05, 4.0, 1e6):
        assert ratios[limit] == pytest.approx(expected)
    assert [m.decision for m in found[1.05]] == ["kept", "kept"]
    assert [m.decision for m in found[4.0]] == ["refined", "kept"]
    assert found[1.05][0].reason == f"area ratio {expected[0]:.2f} < 1/1.05"
    assert found[4.0][1].reason == f"area ratio {expected[1]:.2f} > 4"
    assert found[1.05][0].reason_code == found[4.0][1].reason_code == "area_ratio"
    assert found[4.0][1].mask_rle == instances[0][1].mask_rle
    assert found[1e6] == found[None]


def test_a_gate_that_drops_keeps_the_teachers_mask_in_the_record() -> None:
    segmenter, embeddings, instances = _scene()
    kept, dropped = (
        refine_images(
            segmenter, embeddings, instances, RefinePolicy("points", 3, c, 0.3, gate=gate)
        )[0]
        for c, gate in (("closest", "keep"), ("closest", "drop"))
    )
    assert [m.decision for m in dropped] == ["refined", "dropped"]
    assert dropped[0] == kept[0]
    assert replace(dropped[1], decision="kept") == kept[1]
    assert dropped[1].reason.startswith("agreement 0.")
    assert dropped[1].mask_rle == instances[0][1].mask_rle
    rules = RefinePolicy("points", 3, "argmax-iou", 0.0, gate="drop")
    empty = refine_images(segmenter, embeddings, instances, rules)[0][1]
    assert (empty.decision, empty.reason) == ("dropped", "the segmenter's mask is empty")


def test_single_and_fuse_ask_for_one_mask() -> None:
    segmenter, embeddings, instances = _scene()
    single, fused = (
        refine_images(segmenter, embeddings, instances, RefinePolicy("points", 3, c, 0.0))[0]
        for c in ("single", "fuse")
    )
    assert [len(r.candidate_ious) for r in single + fused] == [1, 1, 1, 1]
    assert [r.candidate for r in single] == [0, 0]
    assert [r.candidate for r in fused] == [-1, -1]
    assert fused[0].decision == "refined"
    assert fused[0].agreement > single[0].agreement


def test_prompts_follow_the_policy() -> None:
    segmenter, embeddings, instances = _scene()
    refine_images(segmenter, embeddings, instances, RefinePolicy("box+mask", 3, "single", 0.0))
    first, second = segmenter.prompts
    assert first.boxes is not None
    assert first.masks is not None
    assert first.masks.shape == (2, 1, 32, 32)
    assert second.masks is not None
    assert len(second) == 0


def test_wrong_policies_are_refused() -> None:
    segmenter, embeddings, instances = _scene()
    with pytest.raises(UsageError, match=r"refine\.candidate"):
        refine_images(segmenter, embeddings, instances, RefinePolicy("points", 3, "best", 0.3))
    with pytest.raises(UsageError, match=r"refine\.policy"):
        refine_images(segmenter, embeddings, instances, RefinePolicy("dots", 3, "fuse", 0.3))
    with pytest.raises(ValueError, match="1 entries for 2 images"):
        refine_images(segmenter, embeddings, [[]], RefinePolicy("points", 3, "fuse", 0.3))


@pytest.mark.parametrize("policy", ["points", "box", "box+mask", "box+points"])
@pytest.mark.parametrize("candidate", ["argmax-iou", "single", "closest", "fuse"])
def test_real_network_and_batch_of_images(real: Segmenter, policy: str, candidate: str) -> None:
    """Every rule runs on a real SAM 2, and images do not mix: each alone gives the same."""
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (*SIZE, 3), dtype=np.uint8) for _ in range(2)]
    instances = [
        [teacher_instance(*SIZE, (12, 16), 5, 0)],
        [teacher_instance(*SIZE, (6, 24), 3, 1), teacher_instance(*SIZE, (15, 8), 6, 2)],
    ]
    rules = RefinePolicy(policy, 3, candidate, 0.1)
    together = refine_images(real, real.encode(images), instances, rules)
    alone = [
        refine_images(real, real.encode([image]), [some], rules)[0]
        for image, some in zip(images, instances, strict=True)
    ]
    assert together == alone
    assert [len(x) for x in together] == [1, 2]


def test_a_batchs_masks_can_wait_until_the_next_batch_is_asked_for(real: Segmenter) -> None:
    rng = np.random.default_rng(1)
    images = [rng.integers(0, 256, (*SIZE, 3), dtype=np.uint8) for _ in range(2)]
    instances = [teacher_instance(*SIZE, (12, 16), 5, 0)], [teacher_instance(*SIZE, (6, 24), 3, 1)]
    rules = RefinePolicy("points", 3, "fuse", 0.1, fuse_prompts=("box",))
    at_once = [
        refine_images(real, real.encode([image]), [some], rules)
        for image, some in zip(images, instances, strict=True)
    ]
    begun = [
        ask_whole(real, real.encode([image]), [some], rules)
        for image, some in zip(images, instances, strict=True)
    ]
    assert [asked.masks() for asked in begun] == at_once
