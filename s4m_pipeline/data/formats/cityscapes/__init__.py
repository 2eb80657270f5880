"""Cityscapes' folders. ``load`` reads a split as an image set, ``convert`` writes it for COCO."""

from s4m_pipeline.data.formats.cityscapes.files import convert, load

__all__ = ["convert", "load"]
