"""Mask2Former's head with class distillation, label weights and regions of doubt."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

import torch
from mmcv.ops import point_sample
from mmdet.models.dense_heads import Mask2FormerHead
from mmdet.registry import MODELS
from mmdet.utils import reduce_mean
from mmengine.structures import InstanceData
from torch import Tensor

from s4m_pipeline.configs.losses import StudentLosses
from s4m_pipeline.models.mask2former.batch_truth import BatchTruth
from s4m_pipeline.models.mask2former.class_losses import class_distillation_loss, class_loss
from s4m_pipeline.models.mask2former.doubt import hide_pixels, hide_points, mostly_inside
from s4m_pipeline.models.mask2former.matching import Matches, match
from s4m_pipeline.models.mask2former.pixel_decoder import sized
from s4m_pipeline.models.mask2former.points import PointCounts, StepPoints

CLASS_LOSS = "loss_class_distillation"
NAMES = ("loss_cls", "loss_mask", "loss_dice")


@MODELS.register_module()
class DistillingMask2FormerHead(Mask2FormerHead):
    """MMDetection's Mask2FormerHead, with the same weights and, by default, the same losses.

    The number of masks that losses are divided by is always Mask2Former's own (``_divisor``).

    Three settings of the training's losses are carried out here:

    - ``class_weight``, ``class_temperature``: where the ground-truth instances have
      ``class_probs``, the losses get one more entry, :data:`CLASS_LOSS`, over the queries that the
      last decoder layer matches. It is not weighted yet.
    - ``quality_weight``: each label's class, mask and dice loss is multiplied by its ``quality`` in
      the ground-truth instances. The divisors stay.
    - ``ignore_score``: nothing costs anything in the doubtful pixels of an unlabelled image (see
      ``doubtful_pixels``), neither in the mask losses nor in the matching of labels and queries.
      Queries without a label that predict mostly such pixels count neither in the class loss nor
      in its divisor.

    Attributes:
        losses: The training's losses; the training wrapper sets them.
    """

    losses: StudentLosses = StudentLosses()

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        if "pixel_decoder" in kwargs:
            kwargs["pixel_decoder"] = sized(kwargs["pixel_decoder"])
        super().__init__(*args, **kwargs)
        self.register_buffer("_shares", torch.tensor(self.class_weight), persistent=False)

    def loss(self, x: tuple[Tensor, ...], batch_data_samples: list[Any]) -> dict[str, Tensor]:
        """Losses of a batch.

        The host waits for the device once, for the costs of matching.

        With the default losses they equal the base class's but for the divisor, points included.

        Args:
            x: The backbone's maps.
            batch_data_samples: One an image; with panoptic ground truth nothing can be done here.

        Returns:
            ``loss_cls``, ``loss_mask`` and ``loss_dice`` of the last layer, the same of the
            others after ``d0.`` and so on, and :data:`CLASS_LOSS`.
        """
        truth = self.truth_of(batch_data_samples)
        scores, masks = self(x, batch_data_samples)
        with torch.autocast(masks[0].device.type, enabled=False):
            return self.layers_losses([one.float() for one in scores], masks, truth)

    def truth_of(self, samples: list[Any]) -> BatchTruth:
        """The batch's instances, with what the losses need of them."""
        return BatchTruth.of(samples, self.losses)

    def layers_losses(
        self, scores: list[Tensor], masks: list[Tensor], truth: BatchTruth
    ) -> dict[str, Tensor]:
        """Losses of all layers, and the class distillation of the last one.

        Args:
            scores: One entry a decoder layer, float32 (B, Q, K + 1).
            masks: One entry a decoder layer, float (B, Q, h, w) logits.
            truth: The batch's instances.
        """
        points = StepPoints(
            self._point_counts(),
            len(scores),
            len(scores[0]),
            truth.pairs(self.num_queries),
            scores[0].device,
        )
        layers = list(zip(scores, masks, strict=True))
        matches = match(
            [
                self._costs(*layer, truth, drawn)
                for layer, drawn in zip(layers, points.matching, strict=True)
            ]
        )
        divisor = self._divisor(truth, scores[0])
        by_layer = [
            self._layer_losses(*layer, truth, pairs, partial(points.uncertain, number), divisor)
            for number, (layer, pairs) in enumerate(zip(layers, matches, strict=True))
        ]
        losses = dict(zip(NAMES, by_layer[-1], strict=True))
        for number, values in enumerate(by_layer[:-1]):
            losses |= zip((f"d{number}.{name}" for name in NAMES), values, strict=True)
        if self.losses.class_weight:
            losses[CLASS_LOSS] = self._class_loss(scores[-1], truth, matches[-1])
        return losses

    def _point_counts(self) -> PointCounts:
        return PointCounts(
            self.num_points,
            int(self.num_points * self.oversample_ratio),
            int(self.importance_sample_ratio * self.num_points),
        )

    def _divisor(self, truth: BatchTruth, like: Tensor) -> Tensor:
        """Number of masks to divide by, the mean over processes: all instances of the batch.

        The base class counts one for an image without any, so that the others' would count less.
        """
        return reduce_mean(like.new_full((1,), sum(truth.counts))).clamp(min=1)

    @torch.no_grad()
    def _costs(
        self, scores: Tensor, masks: Tensor, truth: BatchTruth, points: Tensor
    ) -> list[Tensor]:
        """Matching costs of one layer: for each image (Q, G).

        Args:
            scores: float (B, Q, K + 1).
            masks: float (B, Q, h, w) logits.
            truth: The batch's instances.
            points: float (B, P, 2), of each image.
        """
        if any(where is not None for where in truth.doubtful):
            masks = torch.stack(_without_doubt(masks, truth.doubtful))
        sampled = point_sample(masks.float(), points)
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
        self,
        scores: Tensor,
        masks: Tensor,
        truth: BatchTruth,
        matches: Matches,
        choose: Callable[[Tensor], Tensor],
        divisor: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Class, mask and dice loss of one decoder layer.

        Args:
            scores: float (B, Q, K + 1).
            masks: float (B, Q, h, w) logits.
            truth: The batch's instances.
            matches: Which queries have which instances.
            choose: Chooses the points of the mask losses for logits (M, h, w).
            divisor: Number of masks to divide by.
        """
        quality = None if truth.quality is None else truth.quality[matches.instances]
        loss_class = self._layer_class_loss(scores, masks, truth, matches, quality)
        predicted = masks[matches.images, matches.queries].float()
        if not len(predicted):
            return loss_class, predicted.sum(), predicted.sum()
        logits, targets = self._at_points(predicted, truth, matches, choose)
        loss_dice = self.loss_dice(logits, targets, weight=quality, avg_factor=divisor)
        loss_mask = self.loss_mask(
            logits.flatten(),
            targets.flatten(),
            weight=None if quality is None else quality.repeat_interleave(self.num_points),
            avg_factor=divisor * self.num_points,
        )
        return loss_class, loss_mask, loss_dice

    def _layer_class_loss(
        self,
        scores: Tensor,
        masks: Tensor,
        truth: BatchTruth,
        matches: Matches,
        quality: Tensor | None,
    ) -> Tensor:
        """Class loss over all queries of one layer, those in doubt left out."""
        labels = matches.queries.new_full(scores.shape[:2], self.num_classes)
        labels[matches.images, matches.queries] = truth.labels[matches.instances]
        weights = torch.ones_like(scores[..., 0])
        if quality is not None:
            weights[matches.images, matches.queries] = quality
        divisors = self._shares[labels]
        for image, where in enumerate(truth.doubtful):
            if where is not None:
                inside = mostly_inside(masks[image].detach(), where)
                excused = inside & (labels[image] == self.num_classes)
                weights[image].masked_fill_(excused, 0)
                divisors[image].masked_fill_(excused, 0)
        return class_loss(
            self.loss_cls,
            scores.flatten(0, 1),
            labels.flatten(),
            weights.flatten(),
            self._shares,
            divisors.sum(),
        )

    def _at_points(
        self,
        predicted: Tensor,
        truth: BatchTruth,
        matches: Matches,
        choose: Callable[[Tensor], Tensor],
    ) -> tuple[Tensor, Tensor]:
        """Logits and targets (M, P) of the matched queries at points.

        Args:
            predicted: float (M, h, w) logits, image after image.
            truth: The batch's instances.
            matches: The pairs.
            choose: Chooses the points.
        """
        parts, doubtful = predicted.split(list(matches.counts)), truth.doubtful
        certain = all(where is None for where in doubtful)
        with torch.no_grad():
            seen = predicted if certain else torch.cat(_without_doubt(parts, doubtful))
            points = choose(seen)
            targets = _at_own_points(truth.masks, matches.instances, points)
        logits = point_sample(predicted.unsqueeze(1), points).squeeze(1)
        if certain:
            return logits, targets
        return hide_points(logits, targets, _doubt_at_points(doubtful, matches.counts, points))

    def _class_loss(self, scores: Tensor, truth: BatchTruth, matches: Matches) -> Tensor:
        """Distillation over what the last layer matches; 0 where that is nothing."""
        logits, teacher = [], []
        for image, (queries, instances) in enumerate(matches.by_image()):
            stored = truth.class_probs[image]
            if stored is not None and len(queries):
                logits.append(scores[image, queries])
                teacher.append(stored[instances - truth.firsts[image]])
        if not logits:
            return scores.sum() * 0
        return class_distillation_loss(
            torch.cat(logits), torch.cat(teacher), self.losses.class_temperature
        )


def _without_doubt(parts: Iterable[Tensor], doubtful: Sequence[Tensor | None]) -> list[Tensor]:
    """Each image's logits (N, h, w), background in its doubtful pixels."""
    pairs = zip(parts, doubtful, strict=True)
    return [part if where is None else hide_pixels(part, where) for part, where in pairs]


def _at_own_points(masks: Tensor, instances: Tensor, points: Tensor) -> Tensor:
    """Each pair's mask at its points, float (M, P); the points are put in order, not the masks.

    Args:
        masks: float (T, H, W).
        instances: int64 (M,), each at most once.
        points: float (M, P, 2), x and y in 0 to 1.
    """
    if len(instances) < len(masks):  # an image has more instances than queries
        return point_sample(masks[instances].unsqueeze(1), points).squeeze(1)
    sampled: Tensor = point_sample(masks.unsqueeze(1), points[instances.argsort()])
    return sampled.squeeze(1)[instances]


def _doubt_at_points(
    doubtful: Sequence[Tensor | None], counts: Sequence[int], points: Tensor
) -> Tensor:
    """Doubtful pixels of each mask's image at its points (M, P, 2 in 0 to 1): float (M, P)."""
    parts = []
    for pixels, places in zip(doubtful, points.split(list(counts)), strict=True):
        if pixels is None:
            parts.append(places.new_zeros(places.shape[:2]))
        else:
            shared = pixels[None, None].float().expand(len(places), 1, *pixels.shape)
            parts.append(point_sample(shared, places).squeeze(1))
    return torch.cat(parts)
