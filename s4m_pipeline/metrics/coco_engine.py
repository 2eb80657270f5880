"""COCO's precision and recall tables, by faster-coco-eval or pycocotools. No torch."""

from __future__ import annotations

import contextlib
import gc
import importlib.util
import io
from collections.abc import Iterator, Sequence
from importlib import metadata
from typing import Any, NamedTuple

import numpy as np
from pycocotools import mask as mask_api

ENGINES = ("faster-coco-eval", "pycocotools")
FEW = (1, 10)
"""Detections per image and class that COCO's AR1 and AR10 count."""


class CocoTables(NamedTuple):
    """COCO's tables; -1 where a class has no true instance of an area range.

    Attributes:
        precision: (IoU thresholds 0.5 to 0.95, recalls, classes, area ranges).
        recall: (IoU thresholds, classes, area ranges).
        category_ids: Of the classes.
        recall_of_few: As ``recall``, by the number of detections an image and class that count:
            1 and 10.
    """

    precision: np.ndarray
    recall: np.ndarray
    category_ids: list[int]
    recall_of_few: dict[int, np.ndarray]


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
        # late, because it needs OpenCV: a dry run of an evaluation reads the metrics' names alone
        from s4m_pipeline.metrics.boundary import BoundaryIoU

        eval_class = type("BoundaryEval", (BoundaryIoU, eval_class), {})
        iou_kind = "segm"
    with contextlib.redirect_stdout(io.StringIO()), _no_collection():
        truth, results = coco_class(), coco_class()
        truth.dataset = content
        results.dataset = {**content, "annotations": _as_annotations(detections, iou_kind)}
        truth.createIndex()
        results.createIndex()
        evaluation = eval_class(truth, results, iou_kind)
        # both engines sort this list, so that the last one need not be max_dets
        limits = sorted({min(limit, max_dets) for limit in (*FEW, max_dets)})
        evaluation.params.maxDets = limits
        evaluation.evaluate()
        evaluation.accumulate()
    ids = [int(category_id) for category_id in evaluation.params.catIds]
    shape = (
        len(evaluation.params.iouThrs),
        len(evaluation.params.recThrs),
        len(ids),
        len(evaluation.params.areaRng),
        len(limits),
    )
    precision = np.asarray(evaluation.eval["precision"]).reshape(shape)
    recall = np.asarray(evaluation.eval["recall"]).reshape(shape[:1] + shape[2:])
    few = {limit: recall[..., limits.index(min(limit, max_dets))] for limit in FEW}
    return CocoTables(precision[..., -1], recall[..., -1], ids, few)


def _engine_classes(engine: str) -> tuple[Any, Any]:
    if engine == "faster-coco-eval":
        from faster_coco_eval import COCO as FastCOCO  # noqa: N811
        from faster_coco_eval import COCOeval_faster

        return FastCOCO, COCOeval_faster
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    return COCO, COCOeval


@contextlib.contextmanager
def _no_collection() -> Iterator[None]:
    """Keep the garbage collector off: the engines make many small objects, none in a cycle."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _as_annotations(detections: Sequence[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    """What COCO's ``loadRes`` makes of detections: areas of masks for masks, of boxes for boxes.

    Numbers count from 1: pycocotools takes a match with id 0 for no match.
    """
    annotations = []
    for number, detection in enumerate(detections, 1):
        one = {key: detection[key] for key in ("image_id", "category_id", "score")}
        one["id"], one["iscrowd"] = number, 0
        if kind == "segm" or detection.get("bbox") is None:
            counts, size = (
                detection["segmentation"]["counts"],
                list(detection["segmentation"]["size"]),
            )
            rle = {"size": size, "counts": counts}
            one["segmentation"], one["area"] = rle, int(mask_api.area(rle))
            if kind == "bbox":
                one["bbox"] = mask_api.toBbox(rle).tolist()
        else:
            one["bbox"] = [float(value) for value in detection["bbox"]]
            one["area"] = one["bbox"][2] * one["bbox"][3]
        annotations.append(one)
    return annotations
