"""Mask2Former's choice and scoring of instances, without a float copy of every mask."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from mmdet.models.seg_heads.panoptic_fusion_heads import MaskFormerFusionHead
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmengine.structures import InstanceData
from torch import Tensor

from s4m_pipeline.models.detections import encode_masks, line_spans

GPU_BYTES = 1 << 28
"""Memory of the masks' logits at the image's size that a GPU has at a time."""


@MODELS.register_module()
class ScoringFusionHead(MaskFormerFusionHead):
    """MMDetection's MaskFormerFusionHead; its instances are the same, in less memory.

    A query's mask is binarised and scored once, however many classes it is chosen for. On a CPU the
    masks are done one by one, so that each stays in the cache. Boxes do not wait for the device.
    """

    def predict(
        self,
        mask_cls_results: Tensor,
        mask_pred_results: Tensor,
        batch_data_samples: Sequence[DetDataSample],
        rescale: bool = False,
        **kwargs: Any,
    ) -> list[dict[str, InstanceData]]:
        """The instances of each image, a few masks at a time.

        MMDetection's holds every query's mask at the image's size at once: 14 GB for 100 queries
        and 36 megapixels.

        Args:
            mask_cls_results: float (B, Q, K + 1), logits.
            mask_pred_results: float (B, Q, h, w), logits on the padded input.
            batch_data_samples: B samples with ``img_shape`` and ``ori_shape``.
            rescale: Whether the masks are of the original images' size, not the input's.
            kwargs: For MMDetection's, where panoptic results are asked for.

        Returns:
            B dicts with ``ins_results``: as `instance_postprocess`, but ``masks`` is a list of N
            dicts of COCO's compressed RLE.
        """
        if self.test_cfg.get("panoptic_on", True):
            results: list[dict[str, InstanceData]] = super().predict(
                mask_cls_results, mask_pred_results, batch_data_samples, rescale, **kwargs
            )
            return results
        found = []
        for mask_cls, mask_pred, sample in zip(
            mask_cls_results, mask_pred_results, batch_data_samples, strict=True
        ):
            height, width = sample.metainfo["img_shape"][:2]
            size = sample.metainfo["ori_shape"][:2] if rescale else None
            inside = mask_pred[:, :height, :width]
            found.append({"ins_results": self._encoded_instances(mask_cls, inside, size)})
        return found

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
        scores, labels, queries, own = self._chosen(mask_cls)
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

    def _chosen(self, mask_cls: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Probabilities and labels of the best pairs, their queries, and each pair's among them."""
        probs = mask_cls.softmax(-1)[:, :-1]
        scores, places = probs.flatten().topk(self.test_cfg.get("max_per_image", 100), sorted=False)
        labels = places % self.num_classes
        if self.num_stuff_classes:
            things = labels < self.num_things_classes
            scores, labels, places = scores[things], labels[things], places[things]
        queries, own = (places // self.num_classes).unique(return_inverse=True)
        return scores, labels, queries, own

    def _encoded_instances(
        self, mask_cls: Tensor, mask_pred: Tensor, size: tuple[int, int] | None
    ) -> InstanceData:
        """As `instance_postprocess` of masks brought to a size, each encoded and let go."""
        scores, labels, queries, own = self._chosen(mask_cls)
        height, width = size or mask_pred.shape[1:]
        quality = mask_pred.new_empty(len(queries))
        boxes = mask_pred.new_empty((len(queries), 4), dtype=torch.float32)
        counts: list[bytes] = []
        together = 1
        if mask_pred.device.type != "cpu":
            together = max(1, GPU_BYTES // (4 * height * width))
        for start in range(0, len(queries), together):
            some = slice(start, start + together)
            logits = mask_pred[queries[some]]
            if size is not None:
                logits = F.interpolate(
                    logits[:, None], size=(height, width), mode="bilinear", align_corners=False
                )[:, 0]
            masks, quality[some] = _binarised(logits)
            boxes[some] = _boxes(masks)
            counts += encode_masks(masks)
        return InstanceData(
            scores=scores * quality[own],
            labels=labels,
            bboxes=boxes[own],
            masks=[{"size": [height, width], "counts": counts[n]} for n in own.tolist()],
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
