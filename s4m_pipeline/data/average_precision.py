"""COCO's average precision, overall and per class. No torch.

``faster-coco-eval`` counts where it is installed, ``pycocotools`` otherwise; the figures are read
from the precision table, which is the same in both.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
from collections.abc import Sequence
from typing import Any

import numpy as np

from s4m_pipeline.data.image_set import ImageSet
from s4m_pipeline.errors import UsageError

ENGINES = ("faster-coco-eval", "pycocotools")
KINDS = ("segm", "bbox")
AREAS = {"small": 1, "medium": 2, "large": 3}
"""Place of each area range in COCO's table; 0 is all."""


def default_engine() -> str:
    """The engine that ``coco_ap`` takes: faster-coco-eval where it is installed."""
    return ENGINES[0] if importlib.util.find_spec("faster_coco_eval") else ENGINES[1]


def coco_ap(
    truth: ImageSet,
    detections: Sequence[dict[str, Any]],
    max_dets: int = 100,
    kinds: Sequence[str] = KINDS,
    engine: str | None = None,
) -> dict[str, Any]:
    """Compute COCO's average precision of masks and boxes.

    Args:
        truth: Images with their true instances; crowds count as COCO counts them.
        detections: COCO's result dicts: ``image_id``, ``category_id``, ``score``,
            ``segmentation`` (RLE dict) and, where known, ``bbox`` x, y, width, height in pixels
            (taken from the mask otherwise).
        max_dets: Detections an image and class that count.
        kinds: "segm", "bbox" or both.
        engine: One of ``ENGINES``; the default one when None.

    Returns:
        For each kind a dict of ``AP``, ``AP50``, ``AP75``, ``AP_small``, ``AP_medium``,
        ``AP_large`` and ``AR``, each 0 to 1 or None where there is no true instance, and
        ``per_class``: by category name a dict of ``AP``, ``AP50``, ``AP75`` and ``instances``.

    Raises:
        UsageError: A detection is of an image or category that the truth does not have.
    """
    _check_detections(truth, detections)
    engine = engine or default_engine()
    content = to_coco_dict(truth)
    names = {category.id: category.name for category in truth.categories}
    counts = dict.fromkeys(names, 0)
    for annotation in content["annotations"]:
        counts[annotation["category_id"]] += 1 - annotation["iscrowd"]
    figures = {}
    for kind in kinds:
        evaluated, recall, ids = _evaluate(content, detections, kind, max_dets, engine)
        figures[kind] = _figures(evaluated, recall)
        figures[kind]["per_class"] = {
            names[category_id]: {
                "AP": _mean(evaluated[:, :, place, 0, -1]),
                "AP50": _mean(evaluated[0, :, place, 0, -1]),
                "AP75": _mean(evaluated[5, :, place, 0, -1]),
                "instances": counts[category_id],
            }
            for place, category_id in enumerate(ids)
        }
    return figures


def to_coco_dict(found: ImageSet) -> dict[str, Any]:
    """Write an image set as a COCO dict.

    Annotation ids count from 1: pycocotools takes a match with id 0 for no match.
    """
    annotations: list[dict[str, Any]] = []
    for image in found.images:
        for instance in found.instances.get(image.id, []):
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image.id,
                    "category_id": instance.category_id,
                    "bbox": list(instance.bbox),
                    "area": instance.area,
                    "iscrowd": int(instance.iscrowd),
                    "segmentation": {
                        "size": [image.height, image.width],
                        "counts": instance.rle.decode("ascii"),
                    },
                }
            )
    return {
        "info": {},
        "images": [
            {"id": i.id, "file_name": i.file_name, "height": i.height, "width": i.width}
            for i in found.images
        ],
        "annotations": annotations,
        "categories": [{"id": c.id, "name": c.name} for c in found.categories],
    }


def _check_detections(truth: ImageSet, detections: Sequence[dict[str, Any]]) -> None:
    images = {image.id for image in truth.images}
    categories = {category.id for category in truth.categories}
    for found in detections:
        if found["image_id"] not in images:
            raise UsageError(f"detections of image {found['image_id']}, which has no truth")
        if found["category_id"] not in categories:
            raise UsageError(f"detections of category {found['category_id']}, unknown to the truth")


def _evaluate(
    content: dict[str, Any],
    detections: Sequence[dict[str, Any]],
    kind: str,
    max_dets: int,
    engine: str,
) -> tuple[np.ndarray, np.ndarray, list[int]]:
    """Fill COCO's tables.

    Returns:
        Precision (thresholds, recalls, classes, areas, limits), recall (thresholds, classes,
        areas, limits), -1 where undefined; and the classes' category ids.
    """
    coco_class, eval_class = _engine_classes(engine)
    results = [_as_result(found, kind) for found in detections]
    with contextlib.redirect_stdout(io.StringIO()):
        truth = coco_class()
        truth.dataset = content
        truth.createIndex()
        evaluation = eval_class(truth, _load_results(truth, results, coco_class), kind)
        evaluation.params.maxDets = [1, 10, max_dets]
        evaluation.evaluate()
        evaluation.accumulate()
    ids = [int(category_id) for category_id in evaluation.params.catIds]
    shape = (
        len(evaluation.params.iouThrs),
        len(evaluation.params.recThrs),
        len(ids),
        len(evaluation.params.areaRng),
        3,
    )
    precision = np.asarray(evaluation.eval["precision"]).reshape(shape)
    recall = np.asarray(evaluation.eval["recall"]).reshape(shape[:1] + shape[2:])
    return precision, recall, ids


def _engine_classes(engine: str) -> tuple[Any, Any]:
    if engine == "faster-coco-eval":
        from faster_coco_eval import COCO as FastCOCO  # noqa: N811
        from faster_coco_eval import COCOeval_faster

        return FastCOCO, COCOeval_faster
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    return COCO, COCOeval


def _load_results(truth: Any, results: list[dict[str, Any]], coco_class: Any) -> Any:
    if results:
        return truth.loadRes(results)
    empty = coco_class()  # pycocotools cannot load a list without results
    empty.dataset = {**truth.dataset, "annotations": []}
    empty.createIndex()
    return empty


def _as_result(found: dict[str, Any], kind: str) -> dict[str, Any]:
    """Copy a detection with what ``kind`` needs: with a box in it, COCO would take its area."""
    counts = found["segmentation"]["counts"]
    rle = {"size": list(found["segmentation"]["size"]), "counts": counts}
    if isinstance(counts, bytes):
        rle["counts"] = counts.decode("ascii")
    result = {key: found[key] for key in ("image_id", "category_id", "score")}
    if kind == "segm" or found.get("bbox") is None:
        return {**result, "segmentation": rle}
    return {**result, "bbox": [float(value) for value in found["bbox"]]}


def _figures(precision: np.ndarray, recall: np.ndarray) -> dict[str, Any]:
    figures: dict[str, Any] = {
        "AP": _mean(precision[..., 0, -1]),
        "AP50": _mean(precision[0, ..., 0, -1]),
        "AP75": _mean(precision[5, ..., 0, -1]),
    }
    for name, place in AREAS.items():
        figures[f"AP_{name}"] = _mean(precision[..., place, -1])
    figures["AR"] = _mean(recall[..., 0, -1])
    return figures


def _mean(values: np.ndarray) -> float | None:
    """Mean over what is defined; None where nothing is."""
    defined = values[values > -1]
    return float(defined.mean()) if defined.size else None
