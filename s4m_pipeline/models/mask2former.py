"""Mask2Former's head with distillation of class distributions."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from mmdet.models.dense_heads import Mask2FormerHead
from mmdet.registry import MODELS
from mmengine.structures import InstanceData
from torch import Tensor, nn

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


def semantic_loss(logits: Tensor, instances: list[InstanceData]) -> Tensor:
    """Cross entropy of the classes at every cell.

    Args:
        logits: float (B, K + 1, h, w), the last channel is background.
        instances: Of each image: ``labels`` (N,) and ``masks`` (N, H, W) over the padded input.

    Returns:
        A scalar, the mean over cells. A cell's target is the share of it that each class covers.
    """
    target = torch.zeros_like(logits)
    for shares, truth in zip(target, instances, strict=True):
        if len(truth.labels):
            cells = F.adaptive_avg_pool2d(truth.masks[:, None].float(), shares.shape[-2:])[:, 0]
            shares.index_add_(0, truth.labels, cells.to(shares.dtype))
    covered = target.sum(1, keepdim=True)
    target = target / covered.clamp(min=1.0)
    target[:, -1] = (1 - covered[:, 0]).clamp(min=0.0)
    return F.cross_entropy(logits, target)


@MODELS.register_module()
class DistillingMask2FormerHead(Mask2FormerHead):
    """MMDetection's Mask2FormerHead; weights and behaviour are the same by default.

    With ``class_distillation`` switched on (by the training wrapper) and ``class_probs`` in the
    ground-truth instances, the losses have one entry more, unweighted: :data:`CLASS_LOSS` over the
    queries that the last decoder layer matches.

    Args:
        *args: As of ``Mask2FormerHead``.
        semantic_weight: Weight of a dense loss: mask features and the finest features that the
            queries attend to each predict the class at every cell. It helps a network without
            pretrained weights, which learns classes through a few matched queries only slowly.
            Its two linear layers are not used at inference.
        **kwargs: As of ``Mask2FormerHead``.
    """

    class_distillation: bool = False

    def __init__(self, *args: Any, semantic_weight: float = 0.0, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.semantic_weight = semantic_weight
        self._matched: list[tuple[Tensor, Tensor]] = []
        self._decoded: list[Tensor] = []
        if semantic_weight:
            widths = (kwargs["out_channels"], kwargs["feat_channels"])
            self.semantic_embeds = nn.ModuleList(
                nn.Conv2d(width, self.num_classes + 1, 1) for width in widths
            )
            self.pixel_decoder.register_forward_hook(self._keep_decoded)

    def _keep_decoded(self, _module: nn.Module, _inputs: Any, output: Any) -> None:
        """Keep the features of the dense loss while training."""
        mask_features, memories = output
        self._decoded = [mask_features, memories[-1]] if self.training else []

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
        if self.semantic_weight:
            pairs = zip(self.semantic_embeds, self._decoded, strict=True)
            dense = [semantic_loss(head(level), batch_gt_instances) for head, level in pairs]
            losses["loss_semantic"] = self.semantic_weight * torch.stack(dense).mean()
        self._matched, self._decoded = [], []
        return losses

    def _class_loss(self, scores: Tensor) -> Tensor:
        """Distillation over what the last layer matched; 0 where that is nothing."""
        logits = [logits for logits, _ in self._matched if len(logits)]
        teacher = [teacher for logits, teacher in self._matched if len(logits)]
        if not logits:
            return scores.sum() * 0
        return class_distillation_loss(torch.cat(logits), torch.cat(teacher))
