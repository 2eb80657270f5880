"""Plain folders of images, without labels. No torch."""

from __future__ import annotations

from pathlib import Path

from s4m_pipeline.data.folders import require_folder
from s4m_pipeline.data.formats.image_folder.listing import Listing, list_folder
from s4m_pipeline.data.image_set import ImageRecord, ImageSet
from s4m_pipeline.data.images import header_size
from s4m_pipeline.errors import UsageError


def load(images: Path, upright: bool = True) -> ImageSet:
    """Take every image file below a folder as unlabelled; ids count from 1 in sorted name order.

    Sizes come from the files' headers, upright or as stored. A file whose header cannot be read
    gets size 0 × 0, so that the stage that loads it can set it aside.

    Raises:
        UsageError: The folder is missing or holds no image.
    """
    records = []
    for number, name in enumerate(list_images(images), start=1):
        height, width = header_size(images / name, upright)
        records.append(ImageRecord(number, name, images / name, height, width))
    return ImageSet(categories=[], images=records)


def list_images(folder: Path) -> list[str]:
    """List the names of the image files below a folder, sorted; no file is opened.

    Returns:
        Names relative to the folder, with "/" between their parts.

    Raises:
        UsageError: The folder is missing or holds no image.
    """
    return listing_of(folder).names


def listing_of(folder: Path) -> Listing:
    """List what is below a folder, images and other files; no file is opened.

    Raises:
        UsageError: The folder is missing or holds no image.
    """
    require_folder(folder)
    listing = list_folder(folder)
    if not listing.names:
        rest = listing.rest()
        raise UsageError(
            f"{folder}: no image in this folder (looked for .jpg, .png and the like)"
            + (f"; passed over: {rest}" if rest else "")
        )
    return listing
