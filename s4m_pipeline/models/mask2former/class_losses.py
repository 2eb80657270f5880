"""Losses on queries' classes."""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from mmdet.models.losses import CrossEntropyLoss
from torch import Tensor


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


def class_loss(
    loss: Any,
    scores: Tensor,
    labels: Tensor,
    weights: Tensor,
    shares: Tensor,
    divisor: Tensor,
) -> Tensor:
    """Apply a head's class loss.

    MMDetection's cross-entropy makes a tensor of its class weights at each call, a copy that
    waits for the device; here they are there.

    Args:
        loss: The head's ``loss_cls``.
        scores: float (N, K + 1).
        labels: int64 (N,).
        weights: float (N,).
        shares: float (K + 1,), the loss's class weights.
        divisor: A scalar.
    """
    if type(loss) is not CrossEntropyLoss or loss.class_weight is None:
        value: Tensor = loss(scores, labels, weights, avg_factor=divisor)
        return value
    value = loss.cls_criterion(
        scores,
        labels,
        weights,
        class_weight=shares,
        reduction=loss.reduction,
        avg_factor=divisor,
        ignore_index=loss.ignore_index,
        avg_non_ignore=loss.avg_non_ignore,
    )
    weighted: Tensor = loss.loss_weight * value
    return weighted
