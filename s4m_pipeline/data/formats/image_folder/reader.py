"""Plain folders of images, without labels. No torch."""

from __future__ import annotations

from pathlib import Path

from s4m_pipeline.data.folders import require_folder
from s4m_pipeline.data.image_set import ImageRecord, ImageSet
from s4m_pipeline.data.images import image_size
from s4m_pipeline.errors import UsageError

IMAGE_SUFFIXES = frozenset({".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})
"""Suffixes of image files, in lower case."""


def load(images: Path, upright: bool = True) -> ImageSet:
    """Take every image file below a folder as unlabelled; ids count from 1 in sorted name order.

    Sizes come from the files' headers, upright or as stored. A file whose header cannot be read
    gets size 0 × 0, so that the stage that loads it can set it aside.

    Raises:
        UsageError: The folder is missing or holds no image.
    """
    records = []
    for number, name in enumerate(list_images(images), start=1):
        try:
            height, width = image_size(images / name, upright)
        except UsageError:
            height, width = 0, 0
        records.append(ImageRecord(number, name, images / name, height, width))
    return ImageSet(categories=[], images=records)


def list_images(folder: Path) -> list[str]:
    """List the names of the image files below a folder, sorted; no file is opened.

    Returns:
        Names relative to the folder, with "/" between their parts.

    Raises:
        UsageError: The folder is missing or holds no image.
    """
    require_folder(folder)
    files = (path for path in folder.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES)
    names = sorted(path.relative_to(folder).as_posix() for path in files if path.is_file())
    if not names:
        raise UsageError(f"{folder}: no image in this folder (looked for .jpg, .png and the like)")
    return names
