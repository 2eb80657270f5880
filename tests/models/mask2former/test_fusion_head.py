"""Choice and scoring of instances against MMDetection's own."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from s4m_pipeline.models.openmmlab import prepare

prepare()

from mmdet.models.seg_heads.panoptic_fusion_heads import MaskFormerFusionHead  # noqa: E402
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
