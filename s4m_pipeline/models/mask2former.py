"""Mask2Former's head with distillation of class distributions."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from mmdet.models.dense_heads import Mask2FormerHead
from mmdet.registry import MODELS
from mmengine.structures import InstanceData
from torch import Tensor

CLASS_LOSS = "loss_class_distillation"


def class_distillation_loss(logits: Tensor, teacher: Tensor) -> Tensor:
    """KL divergence of the teacher's class distributions from the student's.

    Both are taken over the object classes alone: a labelled instance is an object, so the share
    that either gives to "no object" says nothing about its class.

    Args:
        logits: float (N, K + 1), the last column is "no object".
        teacher: float (N, K) probabilities that need not sum to 1.

    Returns:
        A scalar, the mean over instances.
    """
    teacher = teacher / teacher.sum(1, keepdim=True).clamp(min=1e-6)
    student = F.log_softmax(logits[:, :-1], dim=1)
    return F.kl_div(student, teacher, reduction="batchmean")


@MODELS.register_module()
class DistillingMask2FormerHead(Mask2FormerHead):
    """MMDetection's Mask2FormerHead; weights and behaviour are the same.

    With ``class_distillation`` switched on (by the training wrapper) and ``class_probs`` in the
    ground-truth instances, the losses have one entry more, unweighted: :data:`CLASS_LOSS` over the
    queries that the last decoder layer matches.
    """

    class_distillation: bool = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._matched: list[tuple[Tensor, Tensor]] = []

    def preprocess_gt(
        self, batch_gt_instances: list[InstanceData], batch_gt_semantic_segs: list[Any]
    ) -> list[InstanceData]:
        """Prepare the ground truth as the base class does and keep its class distributions."""
        prepared = super().preprocess_gt(batch_gt_instances, batch_gt_semantic_segs)
        for target, source in zip(prepared, batch_gt_instances, strict=True):
            if self.class_distillation and "class_probs" in source:
                target.class_probs = source.class_probs
        return prepared

    def get_targets(self, *args: Any, **kwargs: Any) -> tuple[Any, ...]:
        """Match queries and instances of one decoder layer, forgetting the layer before it."""
        self._matched = []
        return super().get_targets(*args, **kwargs)

    def _get_targets_single(
        self, cls_score: Tensor, mask_pred: Tensor, gt_instances: InstanceData, img_meta: dict
    ) -> tuple[Any, ...]:
        targets = super()._get_targets_single(cls_score, mask_pred, gt_instances, img_meta)
        if "class_probs" in gt_instances:
            sampling = targets[-1]
            self._matched.append(
                (
                    cls_score[sampling.pos_inds],
                    gt_instances.class_probs[sampling.pos_assigned_gt_inds],
                )
            )
        return targets

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
        self._matched = []
        return losses

    def _class_loss(self, scores: Tensor) -> Tensor:
        """Distillation over what the last layer matched; 0 where that is nothing."""
        logits = [logits for logits, _ in self._matched if len(logits)]
        teacher = [teacher for logits, teacher in self._matched if len(logits)]
        if not logits:
            return scores.sum() * 0
        return class_distillation_loss(torch.cat(logits), torch.cat(teacher))
