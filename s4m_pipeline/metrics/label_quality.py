"""How good pseudo-labels are, measured against hidden truth. No torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from pycocotools import mask as mask_api

from s4m_pipeline.data.formats.coco.segmentation import as_coco_rles
from s4m_pipeline.data.image_set import ImageSet, Instance
from s4m_pipeline.errors import UsageError

Label = tuple[int, bytes, float]
"""Category id, COCO compressed RLE counts, score."""


@dataclass(slots=True)
class _Tally:
    """Counts of one class, or of all."""

    truth: int = 0
    labels: int = 0
    matched_ious: list[float] = field(default_factory=list)
    best_ious: list[float] = field(default_factory=list)

    def figures(self) -> dict[str, Any]:
        matched = len(self.matched_ious)
        return {
            "truth": self.truth,
            "labels": self.labels,
            "matched": matched,
            "precision": matched / self.labels if self.labels else None,
            "recall": matched / self.truth if self.truth else None,
            "mean_iou": _mean(self.matched_ious),
            "overlapped": len(self.best_ious),
            "mean_best_iou": _mean(self.best_ious),
        }


def label_quality(
    truth: ImageSet,
    labels: Mapping[int, Sequence[Label]],
    min_iou: float = 0.5,
    min_overlap: float = 0.1,
) -> dict[str, Any]:
    """Compare labels with the truth, image by image.

    Labels are matched by falling score, each to the free true instance of its class with the
    highest mask IoU, if that is above ``min_iou``. Crowds are not true instances; a label that
    matches none, and of whose pixels more than half are of a crowd of its class, does not count.

    Args:
        truth: Images with their true instances. All of its images count.
        labels: By image id, in the truth's ids.
        min_iou: A match needs more than this.
        min_overlap: ``mean_best_iou`` takes true instances that some label overlaps by more.

    Returns:
        ``precision``, ``recall``, ``mean_iou`` of the matched pairs, ``mean_best_iou`` (mean over
        true instances of the IoU with the best label of any class), the counts ``truth``,
        ``labels``, ``matched``, ``overlapped`` and ``images``; None where there is nothing to
        divide by; and ``per_class``: the same by category name.

    Raises:
        UsageError: Labels of an image that the truth does not have.
    """
    sizes = {image.id: (image.height, image.width) for image in truth.images}
    unknown = sorted(labels.keys() - sizes.keys())
    if unknown:
        raise UsageError(
            f"labels of {len(unknown)} images without truth, the first is image {unknown[0]}"
        )
    tallies = {category.id: _Tally() for category in truth.categories}
    for image_id, size in sizes.items():
        _tally_image(
            truth.instances.get(image_id, []),
            labels.get(image_id, []),
            size,
            tallies,
            min_iou,
            min_overlap,
        )
    total = _Tally()
    for tally in tallies.values():
        total.truth += tally.truth
        total.labels += tally.labels
        total.matched_ious += tally.matched_ious
        total.best_ious += tally.best_ious
    names = {category.id: category.name for category in truth.categories}
    return {
        "images": len(sizes),
        **total.figures(),
        "per_class": {names[key]: tally.figures() for key, tally in tallies.items()},
    }


def _tally_image(
    instances: Sequence[Instance],
    labels: Sequence[Label],
    size: tuple[int, int],
    tallies: dict[int, _Tally],
    min_iou: float,
    min_overlap: float,
) -> None:
    ranked = sorted(labels, key=lambda label: -label[2])
    for category_id, _, _ in ranked:
        if category_id not in tallies:
            raise UsageError(f"labels of category {category_id}, unknown to the truth")
    true = [instance for instance in instances if not instance.iscrowd]
    crowds = [instance for instance in instances if instance.iscrowd]
    ious = _overlaps(ranked, true, size, crowd=False)
    in_crowd = _overlaps(ranked, crowds, size, crowd=True)
    for place, instance in enumerate(true):
        tallies[instance.category_id].truth += 1
        best = float(ious[:, place].max(initial=0.0))
        if best > min_overlap:
            tallies[instance.category_id].best_ious.append(best)
    free = np.ones(len(true), bool)
    classes = np.array([instance.category_id for instance in true], np.int64)
    crowd_classes = np.array([instance.category_id for instance in crowds], np.int64)
    for row, (category_id, _, _) in enumerate(ranked):
        usable = np.where(free & (classes == category_id), ious[row], -1.0)
        if usable.size and usable.max() > min_iou:
            free[usable.argmax()] = False
            tallies[category_id].matched_ious.append(float(usable.max()))
        elif in_crowd[row][crowd_classes == category_id].max(initial=0.0) > 0.5:
            continue
        tallies[category_id].labels += 1


def _overlaps(
    labels: Sequence[Label], instances: Sequence[Instance], size: tuple[int, int], crowd: bool
) -> np.ndarray:
    """IoU, or share of the label inside for crowds: float64 (labels, instances)."""
    if not labels or not instances:
        return np.zeros((len(labels), len(instances)))
    ours = as_coco_rles([rle for _, rle, _ in labels], *size)
    theirs = as_coco_rles([instance.rle for instance in instances], *size)
    return np.asarray(mask_api.iou(ours, theirs, [int(crowd)] * len(instances)))


def _mean(values: list[float]) -> float | None:
    return float(np.mean(values)) if values else None
