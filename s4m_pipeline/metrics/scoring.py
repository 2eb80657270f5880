"""All measures of one list of detections, in the form that manifests keep. No torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from s4m_pipeline.data.image_set import ImageSet
from s4m_pipeline.errors import UsageError
from s4m_pipeline.metrics.average_precision import coco_ap
from s4m_pipeline.metrics.cityscapes_metric import cityscapes_ap, is_cityscapes
from s4m_pipeline.metrics.coco_engine import default_engine, engine_version

METRICS = ("auto", "coco", "cityscapes", "both")
COCO_KINDS = ("segm", "bbox", "boundary")


def check_metric(name: str) -> None:
    """Raise UsageError where there is no such metric."""
    if name not in METRICS:
        raise UsageError(f"--metric is one of {', '.join(METRICS)}, not '{name}'")


def wants_coco(metric: str) -> bool:
    """Whether a metric's name asks for COCO's figures."""
    return metric != "cityscapes"


def wants_cityscapes(metric: str, truth: ImageSet) -> bool:
    """Whether a metric's name asks for Cityscapes' figures of an image set."""
    return metric in ("cityscapes", "both") or (metric == "auto" and is_cityscapes(truth))


def score_detections(
    truth: ImageSet,
    detections: Sequence[dict[str, Any]],
    metric: str = "auto",
    void: Mapping[int, bytes] | None = None,
) -> dict[str, Any]:
    """Score detections.

    Args:
        truth: Images with their true instances.
        detections: COCO's result dicts with ``bbox`` and ``segmentation``.
        metric: One of ``METRICS``; ``auto`` is COCO's, and Cityscapes' too for its classes.
        void: For Cityscapes' metric, RLE counts by image id of the pixels without a label.

    Returns:
        ``segm``, ``bbox`` and ``boundary`` as ``coco_ap`` gives them, ``cityscapes`` as
        ``cityscapes_ap`` does, those that are asked for; and ``engine``, what counted COCO's.
    """
    metrics: dict[str, Any] = {}
    if wants_coco(metric):
        metrics.update(coco_ap(truth, detections, kinds=COCO_KINDS))
        metrics["engine"] = engine_version(default_engine())
    if wants_cityscapes(metric, truth):
        metrics["cityscapes"] = cityscapes_ap(truth, detections, void)
    return metrics
