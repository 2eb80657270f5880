"""Cityscapes' instance-level average precision, from COCO-style truth. No torch.

It differs from COCO's: a true instance takes the best scored of the detections that overlap it by
more than the threshold and the others are false; detections that match nothing are forgiven where
most of them lies in groups, in true instances too small to count, or in pixels without a label
(void); the curve is integrated as it is, by trapezoids; and all detections count.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools import mask as mask_api

from s4m_pipeline.data.formats.cityscapes.reader import CLASSES
from s4m_pipeline.data.formats.coco.reader import load_coco_json
from s4m_pipeline.data.formats.coco.segmentation import (
    as_coco_rles,
    encode_segmentation,
    mask_areas,
)
from s4m_pipeline.data.image_set import ImageSet, Instance
from s4m_pipeline.errors import UsageError
from s4m_pipeline.metrics.average_precision import check_detections

OVERLAPS = np.arange(0.5, 1.0, 0.05)
MIN_AREA = 100
"""Pixels below which a true instance is neither asked for nor a false alarm."""


@dataclass(slots=True)
class _ImageClass:
    """What one image holds of one class.

    Attributes:
        overlaps: float64 (detections, true): IoU with the labelled regions, groups among them.
        asked: bool (true,): neither a group nor too small.
        forgiven: float64 (detections,): share in pixels that forgive.
        scores: float64 (detections,).
    """

    overlaps: np.ndarray
    asked: np.ndarray
    forgiven: np.ndarray
    scores: np.ndarray


@dataclass(slots=True)
class _Tally:
    """What the images say of one class at one threshold."""

    scores: list[np.ndarray] = field(default_factory=list)
    right: list[np.ndarray] = field(default_factory=list)
    missed: int = 0

    def add(self, image: _ImageClass, threshold: float) -> None:
        """Count an image: best detection of each true instance, the others, the unmatched."""
        hits = image.overlaps > threshold
        for column in np.flatnonzero(image.asked):
            scores = np.sort(image.scores[hits[:, column]])[::-1]
            self.missed += not len(scores)
            self.scores.append(scores)
            self.right.append(np.arange(len(scores)) == 0)
        false = ~hits.any(axis=1) & (image.forgiven <= threshold)
        self.scores.append(image.scores[false])
        self.right.append(np.zeros(int(false.sum()), bool))

    def average_precision(self) -> float:
        """Area below precision over recall, from recall 0 at precision 1, by trapezoids."""
        scores, right = np.concatenate(self.scores), np.concatenate(self.right)
        if not right.any():
            return 0.0
        order = np.argsort(-scores, kind="stable")
        scores, right = scores[order], right[order]
        last = np.append(np.flatnonzero(np.diff(scores)), len(scores) - 1)  # of each score
        true = np.cumsum(right)[last]
        precision = np.append(1.0, true / (last + 1))
        recall = np.append(0.0, true / (right.sum() + self.missed))
        return float((np.diff(recall) * (precision[1:] + precision[:-1]) / 2).sum())


def is_cityscapes(truth: ImageSet) -> bool:
    """Whether an image set has Cityscapes' eight classes of instances, by name."""
    return {category.name for category in truth.categories} == set(CLASSES.values())


def read_void(annotations: Path) -> dict[int, bytes]:
    """Read the pixels without a label from a COCO file's images: ``void``, as s4m writes it.

    Returns:
        COCO's compressed RLE counts by image id, of the images that say so.

    Raises:
        UsageError: The file cannot be read, or an RLE in it is wrong.
    """
    void = {}
    for image in load_coco_json(annotations)["images"]:
        if "void" in image:
            try:
                rle = encode_segmentation(image["void"], image["height"], image["width"])
            except ValueError as error:
                raise UsageError(f"{annotations}: void of image {image['id']}: {error}") from error
            void[image["id"]] = rle
    return void


def cityscapes_ap(
    truth: ImageSet,
    detections: Sequence[dict[str, Any]],
    void: Mapping[int, bytes] | None = None,
) -> dict[str, Any]:
    """Compute Cityscapes' average precision of masks.

    Args:
        truth: Images with their true instances; crowds are groups.
        detections: COCO's result dicts: ``image_id``, ``category_id``, ``score`` and
            ``segmentation`` (RLE dict). Those without a pixel are passed over.
        void: COCO's compressed RLE counts by image id, of the pixels without a label.

    Returns:
        ``AP`` (mean over the classes and the overlaps 0.5 to 0.95), ``AP50``, each 0 to 1 or None
        where there is no true instance; and ``per_class``: by category name the same, and
        ``instances``, the number of true ones that count.

    Raises:
        UsageError: A detection is of an image or category that the truth does not have.
    """
    check_detections(truth, detections)
    void = void or {}
    grouped: dict[tuple[int, int], list[dict[str, Any]]] = defaultdict(list)
    for detection in detections:
        grouped[detection["image_id"], detection["category_id"]].append(detection)
    per_class: dict[str, Any] = {}
    for category in truth.categories:
        images = []
        for image in truth.images:
            true = [i for i in truth.instances.get(image.id, []) if i.category_id == category.id]
            own = grouped.get((image.id, category.id), [])
            if true or own:
                size = (image.height, image.width)
                images.append(_compare(own, true, void.get(image.id), size))
        per_class[category.name] = _class_figures(images)
    return {
        "AP": _mean([figures["AP"] for figures in per_class.values()]),
        "AP50": _mean([figures["AP50"] for figures in per_class.values()]),
        "per_class": per_class,
    }


def _class_figures(images: Sequence[_ImageClass]) -> dict[str, Any]:
    instances = sum(int(image.asked.sum()) for image in images)
    if not instances:
        return {"AP": None, "AP50": None, "instances": 0}
    precisions = []
    for threshold in OVERLAPS:
        tally = _Tally()
        for image in images:
            tally.add(image, threshold)
        precisions.append(tally.average_precision())
    return {"AP": float(np.mean(precisions)), "AP50": precisions[0], "instances": instances}


def _compare(
    detections: Sequence[dict[str, Any]],
    true: Sequence[Instance],
    void: bytes | None,
    size: tuple[int, int],
) -> _ImageClass:
    """Measure an image's detections of one class against its labelled regions and its void."""
    rles = as_coco_rles([_counts(detection) for detection in detections], *size)
    areas = np.array(mask_areas(rles), np.float64)
    rles = [rle for rle, area in zip(rles, areas, strict=True) if area]
    scores = np.array([d["score"] for d in detections], np.float64)[areas > 0]
    areas = areas[areas > 0]
    group = np.array([instance.iscrowd for instance in true], bool)
    true_areas = np.array([instance.area for instance in true], np.float64)
    small = true_areas < MIN_AREA
    shared = _intersections(rles, areas, as_coco_rles([instance.rle for instance in true], *size))
    overlaps = shared / (areas[:, None] + true_areas - shared)
    # A group that is small counts twice, as in Cityscapes' script.
    ignored = shared @ (group.astype(np.float64) + small)
    if void is not None:
        ignored = ignored + _intersections(rles, areas, as_coco_rles([void], *size))[:, 0]
    return _ImageClass(overlaps, ~group & ~small, ignored / areas, scores)


def _intersections(masks: list[Any], areas: np.ndarray, regions: list[Any]) -> np.ndarray:
    """Pixels that detections share with regions: float64 (detections, regions), whole numbers."""
    if not masks or not regions:
        return np.zeros((len(masks), len(regions)))
    shares = np.asarray(mask_api.iou(masks, regions, [1] * len(regions)))
    return np.rint(shares * areas[:, None])


def _counts(detection: Mapping[str, Any]) -> bytes:
    counts = detection["segmentation"]["counts"]
    return counts.encode("ascii") if isinstance(counts, str) else bytes(counts)


def _mean(values: Sequence[float | None]) -> float | None:
    defined = [value for value in values if value is not None]
    return float(np.mean(defined)) if defined else None
