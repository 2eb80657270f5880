"""How the online method labels a batch at every step, in plain PyTorch: teacher, prompts, SAM 2."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from naive_refine import draw_points
from sam2.sam2_image_predictor import SAM2ImagePredictor
from torch import Tensor

from s4m_pipeline.models.openmmlab import prepare

prepare()

from mmdet.structures import DetDataSample  # noqa: E402
from mmdet.structures.mask import BitmapMasks  # noqa: E402
from mmengine.structures import InstanceData  # noqa: E402

LEAST_MASS = 5.0
"""Least sum of a query's mask probabilities, in cells."""


class Queries(NamedTuple):
    """What the teacher keeps of an image: int64 (N,) classes and float32 (N, h, w) mask logits."""

    labels: Tensor
    logits: Tensor


def teacher_queries(
    teacher: Any, samples: Sequence[DetDataSample], images: Sequence[Tensor], count: int
) -> list[Queries]:
    """Run the teacher on a batch and keep each image's surest queries.

    A threshold would keep an unknown number of them, and none of an untrained teacher's: the best
    ``count`` by score are taken, among those whose mask is large enough.

    Args:
        teacher: The averaged model, a ``TrainingWrapper``.
        samples: MMDetection's descriptions of the images.
        images: uint8 (3, H, W), BGR, weakly augmented.
        count: Queries an image.
    """
    bare = [DetDataSample(metainfo=dict(sample.metainfo)) for sample in samples]
    with torch.no_grad():
        data = teacher.data_preprocessor({"inputs": list(images), "data_samples": bare}, False)
        network = teacher.network
        features = network.extract_feat(data["inputs"])
        classes, masks = network.panoptic_head(features, data["data_samples"])
        found = []
        for image_classes, image_masks in zip(classes[-1].float(), masks[-1].float(), strict=True):
            scores, labels = image_classes.softmax(-1)[:, :-1].max(-1)
            large = image_masks.sigmoid().sum((1, 2)) > LEAST_MASS
            best = scores.where(large, -1).topk(count).indices
            found.append(Queries(labels[best], image_masks[best]))
    return found


def segmenter_masks(
    predictor: SAM2ImagePredictor, image: Tensor, queries: Queries, seed: int
) -> InstanceData:
    """Prompt SAM 2 with points drawn from each query's mask, and take its best-scored masks.

    Args:
        predictor: SAM 2's.
        image: uint8 (3, H, W), BGR.
        queries: The teacher's.
        seed: Of the points, so that they can be drawn again.

    Returns:
        ``labels`` and ``masks`` of those that are not empty.
    """
    pixels = np.ascontiguousarray(image.flip(0).permute(1, 2, 0).cpu().numpy())
    height, width = pixels.shape[:2]
    torch.manual_seed(seed)
    points = draw_points(queries.logits, height / queries.logits.shape[1])
    predictor.set_image(pixels)
    masks, scores, _ = predictor.predict(
        points, np.ones(points.shape[:2], np.int32), multimask_output=True
    )
    best = masks[np.arange(len(points)), scores.argmax(1)].astype(np.uint8)
    kept = best.any((1, 2))
    found = InstanceData()
    found.labels = queries.labels.cpu()[torch.from_numpy(kept)]
    found.masks = BitmapMasks(best[kept], height, width)
    return found
