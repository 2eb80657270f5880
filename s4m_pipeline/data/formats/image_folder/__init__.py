"""A folder of images. ``load`` takes every image file below it as unlabelled."""

from s4m_pipeline.data.formats.image_folder.reader import list_images, listing_of, load

__all__ = ["list_images", "listing_of", "load"]
