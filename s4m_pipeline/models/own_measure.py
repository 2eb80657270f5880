"""The figure that a data set's own evaluation reports, by which a training keeps weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from mmdet.registry import METRICS
from mmengine.evaluator import BaseMetric

from s4m_pipeline.data.formats import coco
from s4m_pipeline.data.image_set import ImageSet
from s4m_pipeline.data.reading import Reading
from s4m_pipeline.metrics.average_precision import coco_ap
from s4m_pipeline.metrics.cityscapes_metric import cityscapes_ap, is_cityscapes, read_void
from s4m_pipeline.models.detections import Detections

CITYSCAPES_AP = "cityscapes/AP"
MASK_AP = "coco/segm_AP"
MEASURES = (CITYSCAPES_AP, MASK_AP)
"""Figures that weights are chosen by: Cityscapes' AP for its eight classes, else COCO's mask AP."""


@METRICS.register_module()
class OwnMeasure(BaseMetric):
    """One of ``MEASURES``, counted as ``s4m evaluate`` counts it, without a rounded digit.

    Args:
        validation: The dataset config of the validation images.
    """

    default_prefix = "own"  # without one MMEngine warns; the figures have whole names

    def __init__(self, validation: Mapping[str, Any]) -> None:
        super().__init__(collect_device="cpu")
        self._validation = dict(validation)
        self._truth: ImageSet | None = None
        self._ids = [int(category["id"]) for category in validation["categories"]]

    def process(self, data_batch: Any, data_samples: Sequence[dict[str, Any]]) -> None:
        """Take the detections of a batch, as COCO's result dicts."""
        del data_batch
        for sample in data_samples:
            found = Detections.of(SimpleNamespace(**sample["pred_instances"]))
            size = list(sample["ori_shape"][:2])
            for label, score, rle in zip(found.labels, found.scores, found.rles, strict=True):
                self.results.append(
                    {
                        "image_id": sample["img_id"],
                        "category_id": self._ids[int(label)],
                        "score": float(score),
                        "segmentation": {"size": size, "counts": rle.decode("ascii")},
                    }
                )

    def evaluate(self, size: int) -> dict[str, float]:
        """Compute the figure, of no detection too; MMEngine would warn and give none."""
        del size
        figures = self.compute_metrics(self.results)
        self.results.clear()
        return figures

    def compute_metrics(self, results: list[Any]) -> dict[str, float]:
        """Compute the figure: 0 to 1, and 0 where there is no true instance."""
        truth = self._truth = self._truth or _truth_of(self._validation)
        if is_cityscapes(truth):
            void = read_void(Path(self._validation["annotations"]))
            return {CITYSCAPES_AP: cityscapes_ap(truth, results, void)["AP"] or 0.0}
        return {MASK_AP: coco_ap(truth, results, kinds=("segm",))["segm"]["AP"] or 0.0}


def _truth_of(validation: Mapping[str, Any]) -> ImageSet:
    """The validation images with their instances, without those that are left out."""
    source = coco.load(Path(validation["annotations"]), Path(validation["images"]))
    reading = Reading.from_plain(validation.get("reading", {}))
    return source.read_by(reading).without(validation.get("exclude", ()))
