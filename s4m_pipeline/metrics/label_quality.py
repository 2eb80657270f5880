"""How good pseudo-labels are, measured against hidden truth. No torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from s4m_pipeline.data.image_set import ImageSet, Instance
from s4m_pipeline.errors import UsageError
from s4m_pipeline.metrics.matching import IGNORED, MIN_IOU, TRUE, Label, match_labels, overlaps


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
    min_iou: float = MIN_IOU,
    min_overlap: float = 0.1,
) -> dict[str, Any]:
    """Compare labels with the truth, image by image.

    Labels are matched as ``match_labels`` says; those that it ignores do not count, and crowds are
    no true instances.

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
    ranked = sorted(labels, key=lambda label: -label.score)
    for label in ranked:
        if label.category_id not in tallies:
            raise UsageError(f"labels of category {label.category_id}, unknown to the truth")
    ious = overlaps(ranked, instances, size)
    for place, instance in enumerate(instances):
        if instance.iscrowd:
            continue
        tallies[instance.category_id].truth += 1
        best = float(ious[:, place].max(initial=0.0))
        if best > min_overlap:
            tallies[instance.category_id].best_ious.append(best)
    flags, matched, _ = match_labels(ranked, instances, ious, min_iou)
    for label, flag, iou in zip(ranked, flags.tolist(), matched.tolist(), strict=True):
        if flag == TRUE:
            tallies[label.category_id].matched_ious.append(iou)
        tallies[label.category_id].labels += flag != IGNORED


def _mean(values: list[float]) -> float | None:
    return float(np.mean(values)) if values else None
