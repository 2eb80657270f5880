"""What is measured of detections and of labels, in one place to import from. No torch."""

from s4m_pipeline.metrics.average_precision import coco_ap
from s4m_pipeline.metrics.cityscapes_metric import cityscapes_ap
from s4m_pipeline.metrics.coco_engine import default_engine
from s4m_pipeline.metrics.label_quality import label_quality
from s4m_pipeline.metrics.matching import Label
from s4m_pipeline.metrics.scoring import score_detections

__all__ = [
    "Label",
    "cityscapes_ap",
    "coco_ap",
    "default_engine",
    "label_quality",
    "score_detections",
]
