"""What is measured of detections and of labels, in one place to import from. No torch."""

from s4m_pipeline.data.average_precision import coco_ap
from s4m_pipeline.data.cityscapes_metric import cityscapes_ap
from s4m_pipeline.data.coco_engine import default_engine, to_coco_dict
from s4m_pipeline.data.label_quality import Label, label_quality
from s4m_pipeline.data.scoring import score_detections

__all__ = [
    "Label",
    "cityscapes_ap",
    "coco_ap",
    "default_engine",
    "label_quality",
    "score_detections",
    "to_coco_dict",
]
