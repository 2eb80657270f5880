"""Validation during a training: COCO's average precision, without its prints."""

from __future__ import annotations

import contextlib
import io
from typing import Any

from mmdet.evaluation.metrics import CocoMetric
from mmdet.registry import METRICS


@METRICS.register_module()
class QuietCocoMetric(CocoMetric):
    """MMDetection's CocoMetric; what pycocotools prints is dropped."""

    def compute_metrics(self, results: list[Any]) -> dict[str, float]:
        """Compute the figures, such as ``segm_mAP``; empty where nothing was predicted."""
        with contextlib.redirect_stdout(io.StringIO()):
            return dict(super().compute_metrics(results))
