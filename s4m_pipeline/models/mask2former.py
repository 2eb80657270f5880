"""Mask2Former's head with class distillation, label weights and regions of doubt."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from mmcv.ops import point_sample
from mmdet.models.dense_heads import Mask2FormerHead
from mmdet.models.utils import get_uncertain_point_coords_with_randomness
from mmdet.registry import MODELS
from mmdet.utils import reduce_mean
from mmengine.structures import InstanceData
from torch import Tensor

from s4m_pipeline.models.batch_truth import DOUBTFUL, BatchTruth
from s4m_pipeline.models.class_losses import class_distillation_loss, class_loss
from s4m_pipeline.models.doubt import (
    doubtful_pixels,
    hide_pixels,
    hide_points,
    mostly_inside,
)
from s4m_pipeline.models.matching import Matches, match

CLASS_LOSS = "loss_class_distillation"
NAMES = ("loss_cls", "loss_mask", "loss_dice")


@MODELS.register_module()
class DistillingMask2FormerHead(Mask2FormerHead):
    """MMDetection's Mask2FormerHead; weights and behaviour are the same until a switch is set.

    The training wrapper sets the switches.

    Attributes:
        class_distillation: With ``class_probs`` in the ground-truth instances, add one more entry
            to the losses, unweighted: :data:`CLASS_LOSS` over the queries that the last decoder
            layer matches.
        class_temperature: Of the class distillation.
        quality_weight: Multiply each label's class, mask and dice loss by its ``quality``, in the
            ground-truth instances; the divisors stay.
        ignore_regions: Let nothing cost anything in an unlabelled image's doubtful pixels (see
            ``doubtful_pixels``), neither in the mask losses nor where labels and queries are
            matched. Queries without a label that predict mostly such pixels count neither in the
            class loss nor in its divisor.
    """

    class_distillation: bool = False
    class_temperature: float = 1.0
    quality_weight: bool = False
    ignore_regions: bool = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._doubtful: list[Tensor | None] = []
        self.register_buffer("_shares", torch.tensor(self.class_weight), persistent=False)

    def loss(self, x: tuple[Tensor, ...], batch_data_samples: list[Any]) -> dict[str, Tensor]:
        """Losses of a batch; the data samples' ignored instances are looked at here."""
        samples = batch_data_samples
        self._doubtful = [doubtful_pixels(s) if self.ignore_regions else None for s in samples]
        return super().loss(x, samples)

    def preprocess_gt(
        self, batch_gt_instances: list[InstanceData], batch_gt_semantic_segs: list[Any]
    ) -> list[InstanceData]:
        """Bring masks to the device as float32 (G, H, W), and keep what the switches need."""
        prepared = []
        for place, source in enumerate(batch_gt_instances):
            masks = source.masks.to_tensor(torch.bool, source.labels.device).float()
            target = InstanceData(labels=source.labels, masks=masks)
            if self.class_distillation and "class_probs" in source:
                target.class_probs = source.class_probs
            if self.quality_weight and "quality" in source:
                target.quality = source.quality
            if self._doubtful and self._doubtful[place] is not None:
                target.set_metainfo({DOUBTFUL: self._doubtful[place]})
            prepared.append(target)
        return prepared

    def loss_by_feat(
        self,
        all_cls_scores: list[Tensor],
        all_mask_preds: list[Tensor],
        batch_gt_instances: list[InstanceData],
        batch_img_metas: list[dict],
    ) -> dict[str, Tensor]:
        """Losses of all layers, and the class distillation of the last one.

        Equal to the base class's where no switch is set. On a GPU all layers are matched
        together, which waits for the device once instead of once an image and layer; on a CPU,
        where nothing waits, one after the other, so that random points are drawn in the base
        class's order.

        Args:
            all_cls_scores: One entry a decoder layer, float (B, Q, K + 1).
            all_mask_preds: One entry a decoder layer, float (B, Q, h, w) logits.
            batch_gt_instances: One an image, from `preprocess_gt`.
            batch_img_metas: Not looked at.

        Returns:
            ``loss_cls``, ``loss_mask`` and ``loss_dice`` of the last layer, the same of the
            others after ``d0.`` and so on, and :data:`CLASS_LOSS`.
        """
        del batch_img_metas
        truth = BatchTruth.of(batch_gt_instances)
        device = all_cls_scores[0].device
        with torch.autocast(device.type, enabled=False):
            layers = [
                (scores.float(), masks.float())
                for scores, masks in zip(all_cls_scores, all_mask_preds, strict=True)
            ]
            divisor = self._divisor(truth, layers[0][0])
            together = 1 if device.type == "cpu" else len(layers)
            found: list[tuple[Tensor, Tensor, Tensor]] = []
            for start in range(0, len(layers), together):
                part = layers[start : start + together]
                matches = match([self._costs(*layer, truth) for layer in part])
                for layer, pairs in zip(part, matches, strict=True):
                    found.append(self._layer_losses(*layer, truth, pairs, divisor))
            losses = dict(zip(NAMES, found[-1], strict=True))
            for number, values in enumerate(found[:-1]):
                named = (f"d{number}.{name}" for name in NAMES)
                losses |= zip(named, values, strict=True)
            if self.class_distillation:
                losses[CLASS_LOSS] = self._class_loss(layers[-1][0], truth, matches[-1])
        self._doubtful = []
        return losses

    def _divisor(self, truth: BatchTruth, like: Tensor) -> Tensor:
        """Number of masks to divide by, the mean over processes: as the base class counts them."""
        queries = like.shape[1]
        count = sum(max(min(instances, queries), 1) for instances in truth.counts)
        return reduce_mean(like.new_full((1,), count)).clamp(min=1)

    @torch.no_grad()
    def _costs(self, scores: Tensor, masks: Tensor, truth: BatchTruth) -> list[Tensor]:
        """Matching costs of one layer: for each image (Q, G).

        Args:
            scores: float (B, Q, K + 1).
            masks: float (B, Q, h, w) logits.
            truth: The batch's instances.
        """
        points = torch.rand((len(scores), self.num_points, 2), device=scores.device)
        seen = [
            part if where is None else hide_pixels(part, where)
            for part, where in zip(masks, truth.doubtful, strict=True)
        ]
        drawn = masks if all(where is None for where in truth.doubtful) else torch.stack(seen)
        sampled = point_sample(drawn, points)
        costs = []
        for image, (labels, own) in enumerate(truth.images()):
            if not len(labels):
                costs.append(scores.new_zeros(scores.shape[1], 0))
                continue
            at = point_sample(own[None], points[image : image + 1])[0]
            instances = InstanceData(labels=labels, masks=at)
            queries = InstanceData(scores=scores[image], masks=sampled[image])
            parts = [
                cost(pred_instances=queries, gt_instances=instances, img_meta={})
                for cost in self.assigner.match_costs
            ]
            costs.append(torch.stack(parts).sum(0))
        return costs

    def _layer_losses(
        self, scores: Tensor, masks: Tensor, truth: BatchTruth, found: Matches, divisor: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Class, mask and dice loss of one decoder layer.

        Args:
            scores: float (B, Q, K + 1).
            masks: float (B, Q, h, w) logits.
            truth: The batch's instances.
            found: Which queries have which.
            divisor: Number of masks to divide by.
        """
        quality = None if truth.quality is None else truth.quality[found.instances]
        loss_class = self._layer_class_loss(scores, masks, truth, found, quality)
        predicted = masks[found.images, found.queries]
        if not len(predicted):
            return loss_class, predicted.sum(), predicted.sum()
        own = truth.masks[found.instances]
        return loss_class, *self._mask_losses(predicted, own, truth, found, quality, divisor)

    def _layer_class_loss(
        self,
        scores: Tensor,
        masks: Tensor,
        truth: BatchTruth,
        found: Matches,
        quality: Tensor | None,
    ) -> Tensor:
        """Class loss over all queries of one layer, those in doubt left out."""
        labels = found.queries.new_full(scores.shape[:2], self.num_classes)
        labels[found.images, found.queries] = truth.labels[found.instances]
        weights = torch.ones_like(scores[..., 0])
        if quality is not None:
            weights[found.images, found.queries] = quality
        counted = self._shares[labels]
        for image, where in enumerate(truth.doubtful):
            if where is not None:
                inside = mostly_inside(masks[image].detach(), where)
                excused = inside & (labels[image] == self.num_classes)
                weights[image].masked_fill_(excused, 0)
                counted[image].masked_fill_(excused, 0)
        return class_loss(
            self.loss_cls,
            scores.flatten(0, 1),
            labels.flatten(),
            weights.flatten(),
            self._shares,
            counted.sum(),
        )

    def _mask_losses(
        self,
        predicted: Tensor,
        masks: Tensor,
        truth: BatchTruth,
        found: Matches,
        quality: Tensor | None,
        divisor: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Mask and dice loss of the matched queries.

        Args:
            predicted: float (M, h, w) logits, image after image.
            masks: float (M, H, W), the instances' masks.
            truth: The batch's instances, with each image's doubtful pixels.
            found: The pairs.
            quality: float (M,), or None.
            divisor: Number of masks to divide by.
        """
        doubted = any(where is not None for where in truth.doubtful)
        with torch.no_grad():
            parts = zip(predicted.split(list(found.counts)), truth.doubtful, strict=True)
            seen = [part if where is None else hide_pixels(part, where) for part, where in parts]
            points = get_uncertain_point_coords_with_randomness(
                torch.cat(seen).unsqueeze(1),
                None,
                self.num_points,
                self.oversample_ratio,
                self.importance_sample_ratio,
            )
            targets = point_sample(masks.unsqueeze(1), points).squeeze(1)
        logits = point_sample(predicted.unsqueeze(1), points).squeeze(1)
        if doubted:
            doubt = _at_points(truth.doubtful, found.counts, points)
            logits, targets = hide_points(logits, targets, doubt)
        loss_dice = self.loss_dice(logits, targets, weight=quality, avg_factor=divisor)
        loss_mask = self.loss_mask(
            logits.flatten(),
            targets.flatten(),
            weight=None if quality is None else quality.repeat_interleave(self.num_points),
            avg_factor=divisor * self.num_points,
        )
        return loss_mask, loss_dice

    def _class_loss(self, scores: Tensor, truth: BatchTruth, found: Matches) -> Tensor:
        """Distillation over what the last layer matches; 0 where that is nothing."""
        logits, teacher = [], []
        for image, (queries, instances) in enumerate(found.by_image()):
            stored = truth.class_probs[image]
            if stored is not None and len(queries):
                logits.append(scores[image, queries])
                teacher.append(stored[instances - truth.firsts[image]])
        if not logits:
            return scores.sum() * 0
        return class_distillation_loss(
            torch.cat(logits), torch.cat(teacher), self.class_temperature
        )


def _at_points(doubtful: Sequence[Tensor | None], counts: Sequence[int], points: Tensor) -> Tensor:
    """Doubtful pixels of each mask's image at its points (M, P, 2 in 0 to 1): float (M, P)."""
    found = []
    for pixels, places in zip(doubtful, points.split(list(counts)), strict=True):
        if pixels is None:
            found.append(places.new_zeros(places.shape[:2]))
        else:
            shared = pixels[None, None].float().expand(len(places), 1, *pixels.shape)
            found.append(point_sample(shared, places).squeeze(1))
    return torch.cat(found)
