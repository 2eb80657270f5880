"""Mask2Former's head with class distillation, label weights and regions of doubt."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from mmcv.ops import point_sample
from mmdet.models.dense_heads import Mask2FormerHead
from mmdet.models.utils import get_uncertain_point_coords_with_randomness
from mmdet.registry import MODELS
from mmdet.utils import reduce_mean
from mmengine.structures import InstanceData
from torch import Tensor

from s4m_pipeline.models.doubt import (
    doubtful_pixels,
    hide_pixels,
    hide_points,
    mostly_inside,
)

CLASS_LOSS = "loss_class_distillation"
DOUBTFUL = "doubtful"


def class_distillation_loss(logits: Tensor, teacher: Tensor, temperature: float = 1.0) -> Tensor:
    """KL divergence of the teacher's class distributions from the student's.

    Both are taken over the object classes alone: a labelled instance is an object, so the share
    that either gives to "no object" says nothing about its class. A temperature T divides the
    logits of both (of the teacher's probabilities p: p^(1/T), normalised); the loss is multiplied
    by T squared, so that its gradient keeps its size.

    Args:
        logits: float (N, K + 1), the last column is "no object".
        teacher: float (N, K) probabilities that need not sum to 1.
        temperature: Above 1 softens both distributions.

    Returns:
        A scalar, the mean over instances.
    """
    teacher = teacher.pow(1 / temperature)
    teacher = teacher / teacher.sum(1, keepdim=True).clamp(min=1e-6)
    student = F.log_softmax(logits[:, :-1] / temperature, dim=1)
    return F.kl_div(student, teacher, reduction="batchmean") * temperature**2


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
        self._matched: list[tuple[Tensor, Tensor]] = []
        self._doubtful: list[Tensor | None] = []

    def loss(self, x: tuple[Tensor, ...], batch_data_samples: list[Any]) -> dict[str, Tensor]:
        """Losses of a batch; the data samples' ignored instances are looked at here."""
        samples = batch_data_samples
        self._doubtful = [doubtful_pixels(s) if self.ignore_regions else None for s in samples]
        return super().loss(x, samples)

    def preprocess_gt(
        self, batch_gt_instances: list[InstanceData], batch_gt_semantic_segs: list[Any]
    ) -> list[InstanceData]:
        """Prepare the ground truth as the base class does and keep what the switches need."""
        prepared = super().preprocess_gt(batch_gt_instances, batch_gt_semantic_segs)
        for place, (target, source) in enumerate(zip(prepared, batch_gt_instances, strict=True)):
            if self.class_distillation and "class_probs" in source:
                target.class_probs = source.class_probs
            if self.quality_weight and "quality" in source:
                target.quality = source.quality
            if self._doubtful and self._doubtful[place] is not None:
                target.set_metainfo({DOUBTFUL: self._doubtful[place]})
        return prepared

    def get_targets(self, *args: Any, **kwargs: Any) -> tuple[Any, ...]:
        """Match queries and instances of one decoder layer, forgetting the layer before it."""
        self._matched = []
        return super().get_targets(*args, **kwargs)

    def _get_targets_single(
        self, cls_score: Tensor, mask_pred: Tensor, gt_instances: InstanceData, img_meta: dict
    ) -> tuple[Any, ...]:
        """Targets of one image; its weights tell of quality and doubt."""
        doubtful = gt_instances.metainfo.get(DOUBTFUL)
        seen = mask_pred if doubtful is None else hide_pixels(mask_pred, doubtful)
        targets = super()._get_targets_single(cls_score, seen, gt_instances, img_meta)
        labels, label_weights, mask_targets, mask_weights, *rest = targets
        sampling = rest[-1]
        places, instances = sampling.pos_inds, sampling.pos_assigned_gt_inds
        if "class_probs" in gt_instances:
            self._matched.append((cls_score[places], gt_instances.class_probs[instances]))
        label_weights = label_weights.to(mask_weights.dtype)
        if "quality" in gt_instances:
            quality = gt_instances.quality[instances].to(mask_weights.dtype)
            label_weights[places] = mask_weights[places] = quality
        if doubtful is not None:
            excused = mostly_inside(mask_pred.detach(), doubtful)
            label_weights[excused & (labels == self.num_classes)] = 0
        return (labels, label_weights, mask_targets, mask_weights, *rest)

    def _loss_by_feat_single(
        self,
        cls_scores: Tensor,
        mask_preds: Tensor,
        batch_gt_instances: list[InstanceData],
        batch_img_metas: list[dict],
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Class, mask and dice loss of one decoder layer.

        Args:
            cls_scores: float (B, Q, K + 1).
            mask_preds: float (B, Q, h, w) logits.
            batch_gt_instances: One an image.
            batch_img_metas: One an image.
        """
        if not (self.quality_weight or self.ignore_regions):
            return super()._loss_by_feat_single(
                cls_scores, mask_preds, batch_gt_instances, batch_img_metas
            )
        labels, weights, masks, mask_weights, count = self.get_targets(
            list(cls_scores), list(mask_preds), batch_gt_instances, batch_img_metas
        )
        label = torch.stack(labels)
        matched = label < self.num_classes
        loss_class = self._weighted_class_loss(cls_scores, label, torch.stack(weights))
        predicted = mask_preds[matched]
        if not len(predicted):
            return loss_class, predicted.sum(), predicted.sum()
        divisor = reduce_mean(cls_scores.new_tensor([count])).clamp(min=1)
        doubtful = [gt.metainfo.get(DOUBTFUL) for gt in batch_gt_instances]
        quality = torch.stack(mask_weights)[matched]
        loss_mask, loss_dice = self._weighted_mask_losses(
            predicted, masks, doubtful, quality, divisor
        )
        return loss_class, loss_mask, loss_dice

    def _weighted_class_loss(self, scores: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
        """Class loss over all queries: (B, Q, K + 1), (B, Q) and (B, Q)."""
        excused = (labels == self.num_classes) & (weights == 0)
        share = scores.new_tensor(self.class_weight)[labels]
        return self.loss_cls(
            scores.flatten(0, 1),
            labels.flatten(),
            weights.flatten(),
            avg_factor=share[~excused].sum(),
        )

    def _weighted_mask_losses(
        self,
        predicted: Tensor,
        masks: list[Tensor],
        doubtful: list[Tensor | None],
        quality: Tensor,
        divisor: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Mask and dice loss of the matched queries.

        Args:
            predicted: float (M, h, w) logits, image after image.
            masks: Each image's matched masks, (M_i, H, W).
            doubtful: Each image's doubtful pixels, bool (H, W), or None.
            quality: float (M,).
            divisor: Number of masks to divide by.
        """
        counts = [len(found) for found in masks]
        with torch.no_grad():
            parts = zip(predicted.split(counts), doubtful, strict=True)
            seen = [part if where is None else hide_pixels(part, where) for part, where in parts]
            points = get_uncertain_point_coords_with_randomness(
                torch.cat(seen).unsqueeze(1),
                None,
                self.num_points,
                self.oversample_ratio,
                self.importance_sample_ratio,
            )
            targets = point_sample(torch.cat(masks).unsqueeze(1).float(), points).squeeze(1)
            doubt = _at_points(doubtful, counts, points)
        logits = point_sample(predicted.unsqueeze(1), points).squeeze(1)
        logits, targets = hide_points(logits, targets, doubt)
        loss_dice = self.loss_dice(logits, targets, weight=quality, avg_factor=divisor)
        loss_mask = self.loss_mask(
            logits.flatten(),
            targets.flatten(),
            weight=quality.repeat_interleave(self.num_points),
            avg_factor=divisor * self.num_points,
        )
        return loss_mask, loss_dice

    def loss_by_feat(
        self,
        all_cls_scores: list[Tensor],
        all_mask_preds: list[Tensor],
        batch_gt_instances: list[InstanceData],
        batch_img_metas: list[dict],
    ) -> dict[str, Tensor]:
        """Losses of all layers, and the class distillation of the last one."""
        losses = super().loss_by_feat(
            all_cls_scores, all_mask_preds, batch_gt_instances, batch_img_metas
        )
        if self.class_distillation:
            losses[CLASS_LOSS] = self._class_loss(all_cls_scores[-1])
        self._matched, self._doubtful = [], []
        return losses

    def _class_loss(self, scores: Tensor) -> Tensor:
        """Distillation over what the last layer matched; 0 where that is nothing."""
        logits = [logits for logits, _ in self._matched if len(logits)]
        teacher = [teacher for logits, teacher in self._matched if len(logits)]
        if not logits:
            return scores.sum() * 0
        return class_distillation_loss(
            torch.cat(logits), torch.cat(teacher), self.class_temperature
        )


def _at_points(doubtful: list[Tensor | None], counts: list[int], points: Tensor) -> Tensor:
    """Doubtful pixels of each mask's image at its points (M, P, 2 in 0 to 1): float (M, P)."""
    found = []
    for pixels, places in zip(doubtful, points.split(counts), strict=True):
        if pixels is None:
            found.append(places.new_zeros(places.shape[:2]))
        else:
            shared = pixels[None, None].float().expand(len(places), 1, *pixels.shape)
            found.append(point_sample(shared, places).squeeze(1))
    return torch.cat(found)
