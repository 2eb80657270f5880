"""Check what a split needs of a COCO file: images, classes and labels. No torch."""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from reprlib import repr as shortened
from typing import Any

from s4m_pipeline.data.check.entries import ImageEntry
from s4m_pipeline.data.folders import require_inside
from s4m_pipeline.data.formats.coco.reader import read_images
from s4m_pipeline.data.formats.coco.segmentation import (
    bbox_areas,
    check_segmentation,
    encode_segmentation,
)
from s4m_pipeline.data.formats.coco.text import CocoText
from s4m_pipeline.data.formats.coco.values import (
    PANOPTIC,
    EntryError,
    crowd_of,
    is_panoptic,
    reference,
)
from s4m_pipeline.data.image_set import only_crowds
from s4m_pipeline.data.near_names import NearNames
from s4m_pipeline.errors import UsageError
from s4m_pipeline.wording import counted

KEYS = ("id", "file_name", "height", "width")
"""What is used of an image's entry."""


@dataclass(slots=True)
class Labels:
    """Image, category and kind of each annotation, by its place in the file.

    Attributes:
        source: The file, for messages.
        images: Image ids.
        categories: Category ids.
        crowds: Whether it is a crowd.
    """

    source: Path
    images: list[int] = field(default_factory=list)
    categories: list[int] = field(default_factory=list)
    crowds: list[bool] = field(default_factory=list)

    def add(self, place: int, entry: Any) -> None:
        """Take in an annotation (UsageError without an image or class); ``CocoText`` calls this."""
        if not isinstance(entry, dict):
            raise EntryError(f"{self.source}: annotation number {place} is not an object")
        if is_panoptic(entry):
            raise UsageError(f"{self.source}: {PANOPTIC}")
        for key, known in (("image_id", self.images), ("category_id", self.categories)):
            value = reference(entry, key)
            if value is None:
                fault = f"annotation number {place} has no whole number as '{key}'"
                raise EntryError(f"{self.source}: {fault}: {shortened(entry.get(key))}")
            known.append(value)
        try:
            self.crowds.append(crowd_of(entry))
        except ValueError as error:
            raise EntryError(f"{self.source}: annotation number {place}: {error}") from error

    def by_image(
        self, images: Collection[int], categories: Mapping[int, str]
    ) -> dict[int, list[int]]:
        """Group the instances' category ids by image; crowds do not count.

        Args:
            images: Ids of the file's images.
            categories: Names of the file's categories by id.

        Raises:
            UsageError: An annotation is of an unknown image or category, or there is no instance.
        """
        known = {"image": frozenset(images), "category": frozenset(categories)}
        grouped: dict[int, list[int]] = {}
        for place, (image, category) in enumerate(zip(self.images, self.categories, strict=True)):
            for kind, key in (("image", image), ("category", category)):
                if key not in known[kind]:
                    fault = (
                        f"annotation number {place} is of {kind} {key}, which is not in the file"
                    )
                    raise EntryError(f"{self.source}: {fault}")
            if not self.crowds[place]:
                grouped.setdefault(image, []).append(category)
        if not grouped and self.crowds:
            raise UsageError(f"{self.source}: {only_crowds(len(self.crowds))}")
        if not grouped:
            raise UsageError(f"{self.source}: no labelled instance in it")
        return grouped


def check_masks(text: CocoText, labels: Labels, images: Sequence[ImageEntry]) -> None:
    """Check the masks as reading does, without drawing them.

    Args:
        text: The file.
        labels: Its annotations.
        images: Its images; every annotation is of one of them.

    Raises:
        EntryError: A mask cannot be used.
    """
    by_id = {image.id: image for image in images}
    for place, image_id in enumerate(labels.images):
        image, entry = by_id[image_id], json.loads(text.annotation(place))
        try:
            check_segmentation(entry.get("segmentation"), image.height, image.width)
        except ValueError as error:
            name = f"annotation {shortened(entry.get('id'))} of {image.name}"
            raise EntryError(f"{text.source}: {name}: {error}") from error


def require_label(text: CocoText, labels: Labels, images: Sequence[ImageEntry], part: str) -> None:
    """Refuse a part of a file that no training takes: without a label on any image.

    Args:
        text: The file.
        labels: Its annotations.
        images: The part's images.
        part: What to call them.

    Raises:
        UsageError: They have no instance that is no crowd and has a pixel.
    """
    by_id = {image.id: image for image in images}
    for place, image_id in enumerate(labels.images):
        image = by_id.get(image_id)
        if image is None or labels.crowds[place]:
            continue
        segmentation = json.loads(text.annotation(place))["segmentation"]
        rle = encode_segmentation(segmentation, image.height, image.width)
        if bbox_areas([rle], image.height, image.width)[1][0]:
            return
    raise UsageError(
        f"{text.source}: no labelled instance on the {counted(len(images), 'image', 'images')} of "
        f"the {part} part: no training would take it.\nGive a larger share or another --seed."
    )


def check_images(
    entries: Sequence[Any], source: Path, folder: Path, outside: bool
) -> list[ImageEntry]:
    """Check a file's image entries; what is used of them, by id.

    Args:
        entries: The entries.
        source: The file, for messages.
        folder: Where the images should be.
        outside: Whether names may lead out of it.

    Raises:
        UsageError: An entry cannot be used, an id or a file occurs twice, or images are missing.
    """
    read_images(entries, source, folder)
    # not from the records, whose names are escaped for people
    images = [ImageEntry(*(one[key] for key in KEYS)) for one in entries]
    if not outside:
        require_inside([one.file_name for one in images], folder, source, "give --outside")
    # unlike Path.is_file it takes any name
    missing = [one.file_name for one in images if not os.path.isfile(folder / one.file_name)]
    if missing:
        start = counted(len(missing), "image is missing, it", "images are missing, the first")
        raise UsageError(f"{folder}: {start} is {missing[0]}{NearNames(folder).hint(missing[0])}")
    return sorted(images, key=lambda image: image.id)
