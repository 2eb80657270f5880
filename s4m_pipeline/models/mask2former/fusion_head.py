"""Mask2Former's choice and scoring of instances, without a float copy of every mask."""

from __future__ import annotations

import torch
from mmdet.models.seg_heads.panoptic_fusion_heads import MaskFormerFusionHead
from mmdet.registry import MODELS
from mmengine.structures import InstanceData
from torch import Tensor

from s4m_pipeline.models.detections import line_spans


@MODELS.register_module()
class ScoringFusionHead(MaskFormerFusionHead):
    """MMDetection's MaskFormerFusionHead; its instances are the same, in less memory.

    A query's mask is binarised and scored once, however many classes it is chosen for. On a CPU the
    masks are done one by one, so that each stays in the cache. Boxes do not wait for the device.
    """

    def instance_postprocess(self, mask_cls: Tensor, mask_pred: Tensor) -> InstanceData:
        """The pairs of query and class that score best, ``test_cfg.max_per_image`` of them.

        A score is the class's probability times the mean probability of the mask's pixels.

        Args:
            mask_cls: float (Q, K + 1), logits; the last column is "no object".
            mask_pred: float (Q, H, W), logits.

        Returns:
            ``scores`` float (N,), ``labels`` int64 (N,), ``bboxes`` float32 (N, 4) x0, y0, x1, y1
            in pixels, 0 where a mask is empty, and ``masks`` bool (N, H, W).
        """
        probs = mask_cls.softmax(-1)[:, :-1]
        scores, places = probs.flatten().topk(self.test_cfg.get("max_per_image", 100), sorted=False)
        labels = places % self.num_classes
        if self.num_stuff_classes:
            things = labels < self.num_things_classes
            scores, labels, places = scores[things], labels[things], places[things]
        queries, own = (places // self.num_classes).unique(return_inverse=True)
        masks = mask_pred.new_empty((len(queries), *mask_pred.shape[1:]), dtype=torch.bool)
        quality = mask_pred.new_empty(len(queries))
        together = 1 if mask_pred.device.type == "cpu" else max(len(queries), 1)
        for start in range(0, len(queries), together):
            some = slice(start, start + together)
            masks[some], quality[some] = _binarised(mask_pred[queries[some]])
        return InstanceData(
            scores=scores * quality[own],
            labels=labels,
            bboxes=_boxes(masks)[own],
            masks=masks[own],
        )


def _binarised(logits: Tensor) -> tuple[Tensor, Tensor]:
    """Masks bool (N, H, W), and the mean probability of the pixels of each: float (N,)."""
    masks = logits > 0
    sums = (logits.sigmoid() * masks).flatten(1).sum(1)
    return masks, sums / (masks.flatten(1).sum(1) + 1e-6)


def _boxes(masks: Tensor) -> Tensor:
    """Boxes of masks: float32 (N, 4) x0, y0, x1, y1, 0 where a mask is empty."""
    pixels = masks.view(torch.uint8)
    sides = []
    for lines in (pixels.amax(1), pixels.amax(2)):
        first, last = line_spans(lines)
        sides.append((first, last.masked_fill(lines.amax(1) == 0, 0)))
    (x0, x1), (y0, y1) = sides
    return torch.stack([x0, y0, x1, y1], dim=1).float()
