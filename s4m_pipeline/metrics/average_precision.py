"""COCO's average precision and recall, by size and class. No torch.

``faster-coco-eval`` counts where it is installed, ``pycocotools`` otherwise; the figures are read
from the tables of precision and recall, which are the same in both.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from s4m_pipeline.data.formats.coco.writer import to_coco_dict
from s4m_pipeline.data.image_set import ImageSet
from s4m_pipeline.errors import UsageError
from s4m_pipeline.metrics.coco_engine import CocoTables, coco_tables, default_engine
from s4m_pipeline.object_sizes import SIZES

KINDS = ("segm", "bbox")
AREAS = {size: place for place, size in enumerate(SIZES, 1)}
"""Place of each area range in COCO's tables; 0 is all areas."""


def coco_ap(
    truth: ImageSet,
    detections: Sequence[dict[str, Any]],
    max_dets: int = 100,
    kinds: Sequence[str] = KINDS,
    engine: str | None = None,
) -> dict[str, Any]:
    """Compute COCO's average precision and recall of masks, boxes and boundaries.

    Args:
        truth: Images with their true instances; crowds count as COCO counts them.
        detections: COCO's result dicts: ``image_id``, ``category_id``, ``score``,
            ``segmentation`` (RLE dict) and, where known, ``bbox`` x, y, width, height in pixels
            (taken from the mask otherwise).
        max_dets: Detections an image and class that count.
        kinds: Some of "segm", "bbox" and "boundary" (Cheng et al., 2021).
        engine: "faster-coco-eval" or "pycocotools"; the default one when None.

    Returns:
        For each kind COCO's twelve figures: ``AP`` (mean over the IoU thresholds 0.5 to 0.95),
        ``AP50``, ``AP75``, ``AP_small``, ``AP_medium``, ``AP_large``, ``AR1`` and ``AR10`` (of so
        many detections an image and class), ``AR``, ``AR_small``, ``AR_medium`` and ``AR_large``,
        each 0 to 1 or None where there is no true instance; and ``per_class``: by category name
        the same, and ``instances``, the number of true ones without crowds. Size and box of a true
        instance are those that its file tells, as in COCO's own evaluation.

    Raises:
        UsageError: A detection is of an image or category that the truth does not have.
    """
    check_detections(truth, detections)
    engine = engine or default_engine()
    content = to_coco_dict(truth)
    names = {category.id: category.name for category in truth.categories}
    counts = dict.fromkeys(names, 0)
    for annotation in content["annotations"]:
        counts[annotation["category_id"]] += 1 - annotation["iscrowd"]
    figures: dict[str, Any] = {}
    for kind in kinds:
        tables = coco_tables(content, detections, kind, max_dets, engine)
        figures[kind] = _figures(tables, slice(None))
        figures[kind]["per_class"] = {
            names[category_id]: {
                **_figures(tables, slice(place, place + 1)),
                "instances": counts[category_id],
            }
            for place, category_id in enumerate(tables.category_ids)
        }
    return figures


def check_detections(truth: ImageSet, detections: Sequence[dict[str, Any]]) -> None:
    """Raise UsageError when a detection is of an image or category that the truth does not have."""
    images = {image.id for image in truth.images}
    categories = {category.id for category in truth.categories}
    for detection in detections:
        if detection["image_id"] not in images:
            raise UsageError(f"detections of image {detection['image_id']}, which has no truth")
        if detection["category_id"] not in categories:
            raise UsageError(
                f"detections of category {detection['category_id']}, unknown to the truth"
            )


def _figures(tables: CocoTables, classes: slice) -> dict[str, Any]:
    """Measures over some classes, all of them or one."""
    precision = tables.precision[:, :, classes]
    recall = tables.recall[:, classes]
    figures: dict[str, Any] = {
        "AP": _mean(precision[..., 0]),
        "AP50": _mean(precision[0, ..., 0]),
        "AP75": _mean(precision[5, ..., 0]),
    }
    for name, place in AREAS.items():
        figures[f"AP_{name}"] = _mean(precision[..., place])
    for limit, few in tables.recall_of_few.items():
        figures[f"AR{limit}"] = _mean(few[:, classes, 0])
    figures["AR"] = _mean(recall[..., 0])
    for name, place in AREAS.items():
        figures[f"AR_{name}"] = _mean(recall[..., place])
    return figures


def _mean(values: np.ndarray) -> float | None:
    """Mean over what is defined; None where nothing is."""
    defined = values[values > -1]
    return float(defined.mean()) if defined.size else None
