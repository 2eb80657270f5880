"""COCO's precision and recall tables, by faster-coco-eval or pycocotools. No torch."""

from __future__ import annotations

import contextlib
import importlib.util
import io
from collections.abc import Sequence
from importlib import metadata
from typing import Any, NamedTuple

import numpy as np

from s4m_pipeline.data.image_set import ImageSet

ENGINES = ("faster-coco-eval", "pycocotools")


class CocoTables(NamedTuple):
    """COCO's tables; -1 where a class has no true instance of an area range.

    Attributes:
        precision: (IoU thresholds 0.5 to 0.95, recalls, classes, area ranges).
        recall: (IoU thresholds, classes, area ranges).
        category_ids: Of the classes.
    """

    precision: np.ndarray
    recall: np.ndarray
    category_ids: list[int]


def default_engine() -> str:
    """The engine that ``coco_ap`` takes: faster-coco-eval where it is installed."""
    return ENGINES[0] if importlib.util.find_spec("faster_coco_eval") else ENGINES[1]


def engine_version(engine: str) -> str:
    """An engine's name and version, for the manifest."""
    return f"{engine} {metadata.version(engine)}"


def coco_tables(
    content: dict[str, Any],
    detections: Sequence[dict[str, Any]],
    kind: str,
    max_dets: int,
    engine: str,
) -> CocoTables:
    """Fill COCO's tables.

    Args:
        content: The truth as a COCO dict.
        detections: COCO's result dicts.
        kind: "segm", "bbox" or "boundary".
        max_dets: Detections an image and class that count.
        engine: One of ``ENGINES``.
    """
    coco_class, eval_class = _engine_classes(engine)
    iou_kind = kind
    if kind == "boundary":
        from s4m_pipeline.data.boundary import BoundaryIoU

        eval_class = type("BoundaryEval", (BoundaryIoU, eval_class), {})
        iou_kind = "segm"
    results = [_as_result(found, iou_kind) for found in detections]
    with contextlib.redirect_stdout(io.StringIO()):
        truth = coco_class()
        truth.dataset = content
        truth.createIndex()
        evaluation = eval_class(truth, _load_results(truth, results, coco_class), iou_kind)
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
    return CocoTables(precision[..., -1], recall[..., -1], ids)


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
