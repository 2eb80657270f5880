"""COCO's JSON. ``load`` reads a file as an image set, ``save`` writes one."""

from s4m_pipeline.data.formats.coco.reader import load
from s4m_pipeline.data.formats.coco.writer import save

__all__ = ["load", "save"]
