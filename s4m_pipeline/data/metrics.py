"""What is measured of detections and of labels, in one place to import from. No torch."""

from s4m_pipeline.data.average_precision import coco_ap, default_engine, to_coco_dict
from s4m_pipeline.data.label_quality import Label, label_quality

__all__ = ["Label", "coco_ap", "default_engine", "label_quality", "to_coco_dict"]
