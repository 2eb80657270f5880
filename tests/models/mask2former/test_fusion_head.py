"""Choice and scoring of instances against MMDetection's own."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from pycocotools import mask as mask_api
from torch import Tensor

from s4m_pipeline.models.openmmlab import prepare

prepare()

from mmdet.models.seg_heads.panoptic_fusion_heads import MaskFormerFusionHead  # noqa: E402
from mmdet.structures import DetDataSample  # noqa: E402
from mmengine.config import ConfigDict  # noqa: E402

from s4m_pipeline.models.mask2former.fusion_head import ScoringFusionHead  # noqa: E402

QUERIES, SIZE = 9, (23, 31)


def heads(things: int, stuff: int, most: int) -> tuple[Any, Any]:
    test_cfg = ConfigDict(panoptic_on=False, instance_on=True, max_per_image=most)
    made = (ScoringFusionHead, MaskFormerFusionHead)
    return tuple(kind(things, stuff, test_cfg=test_cfg) for kind in made)


def answers(classes: int) -> tuple[Tensor, Tensor]:
    """Logits of classes and masks; one mask is empty, one a single pixel, one full."""
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(QUERIES, classes + 1, generator=generator)
    masks = 3 * torch.randn(QUERIES, *SIZE, generator=generator)
    masks[0], masks[1], masks[2] = -1, -1, 1
    masks[1, 5, 30] = 0.5
    return scores, masks


@pytest.mark.parametrize(("things", "stuff", "most"), [(4, 0, 20), (1, 0, 9), (3, 2, 30)])
def test_instances_are_mmdetections(things: int, stuff: int, most: int) -> None:
    ours, theirs = (
        head.instance_postprocess(*answers(things + stuff)) for head in heads(things, stuff, most)
    )
    assert len(ours) == len(theirs)
    assert torch.equal(ours.labels, theirs.labels)
    assert torch.equal(ours.masks, theirs.masks)
    assert torch.equal(ours.bboxes, theirs.bboxes)
    assert ours.bboxes.dtype == theirs.bboxes.dtype
    torch.testing.assert_close(ours.scores, theirs.scores, rtol=1e-6, atol=1e-8)


def test_stuff_alone_gives_no_instances() -> None:
    ours, theirs = (head.instance_postprocess(*answers(2)) for head in heads(0, 2, 6))
    assert len(ours) == len(theirs) == 0
    assert ours.masks.shape == theirs.masks.shape


@pytest.mark.parametrize("rescale", [True, False])
@pytest.mark.parametrize(("things", "stuff", "most"), [(4, 0, 20), (3, 2, 30), (0, 2, 6)])
def test_a_batchs_encoded_instances_are_mmdetections(
    things: int, stuff: int, most: int, rescale: bool
) -> None:
    scores, masks = answers(things + stuff)
    batch = (torch.stack([scores, -scores]), torch.stack([masks, masks.flip(2)]))
    samples = [
        DetDataSample(metainfo={"img_shape": shape, "ori_shape": original})
        for shape, original in (((20, 31), (57, 90)), ((23, 24), (11, 12)))
    ]
    ours, theirs = (head.predict(*batch, samples, rescale) for head in heads(things, stuff, most))
    for own, wanted in zip(ours, theirs, strict=True):
        found, expected = own["ins_results"], wanted["ins_results"]
        assert len(found) == len(expected)
        assert torch.equal(found.labels, expected.labels)
        assert torch.equal(found.bboxes, expected.bboxes)
        torch.testing.assert_close(found.scores, expected.scores, rtol=1e-6, atol=1e-8)
        for rle, mask in zip(found.masks, expected.masks.numpy(), strict=True):
            assert rle["size"] == list(mask.shape)
            assert np.array_equal(mask_api.decode(rle), mask)


def test_a_large_images_masks_are_never_held_together() -> None:
    """40 queries at 2000 x 2000: MMDetection's way takes 640 MB of logits alone."""
    scores, masks = torch.randn(40, 3), torch.randn(40, 16, 16)
    sample = DetDataSample(metainfo={"img_shape": (16, 16), "ori_shape": (2000, 2000)})
    (head, _) = heads(2, 0, 40)
    tracked = torch.profiler.profile(profile_memory=True)
    with tracked, torch.inference_mode():
        head.predict(scores[None], masks[None], [sample], True)
    held = peak = 0
    for event in tracked.profiler.kineto_results.events():
        if event.name() == "[memory]":
            held += event.nbytes()
            peak = max(peak, held)
    assert 0 < peak < 8 * 4 * 2000 * 2000
