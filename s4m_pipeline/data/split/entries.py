"""Check what a split needs of a COCO file: images, classes and labels. No torch."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from reprlib import repr as shortened
from typing import Any

from s4m_pipeline.data.check.entries import ImageEntry
from s4m_pipeline.data.formats.coco.reader import read_images
from s4m_pipeline.data.formats.coco.values import (
    category_key,
    crowd_of,
    reference,
)
from s4m_pipeline.data.image_set import only_crowds
from s4m_pipeline.errors import UsageError
from s4m_pipeline.wording import counted


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
            raise UsageError(f"{self.source}: annotation number {place} is not an object")
        for key, known in (("image_id", self.images), ("category_id", self.categories)):
            value = reference(entry, key)
            if value is None:
                fault = f"annotation number {place} has no whole number as '{key}'"
                raise UsageError(f"{self.source}: {fault}: {shortened(entry.get(key))}")
            known.append(value)
        try:
            self.crowds.append(crowd_of(entry))
        except ValueError as error:
            raise UsageError(f"{self.source}: annotation number {place}: {error}") from error

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
                    raise UsageError(f"{self.source}: {fault}")
            if not self.crowds[place]:
                grouped.setdefault(image, []).append(category)
        if not grouped and self.crowds:
            raise UsageError(f"{self.source}: {only_crowds(len(self.crowds))}")
        if not grouped:
            raise UsageError(f"{self.source}: no labelled instance in it")
        return grouped


def check_images(entries: Sequence[Any], source: Path, folder: Path) -> list[ImageEntry]:
    """Check a file's image entries; what is used of them, by id.

    Args:
        entries: The entries.
        source: The file, for messages.
        folder: Where the images should be.

    Raises:
        UsageError: An entry cannot be used, an id or a file occurs twice, or images are missing.
    """
    records = read_images(entries, source, folder).values()
    images = [ImageEntry(one.id, one.file_name, one.height, one.width) for one in records]
    # unlike Path.is_file it takes any name
    missing = [one.file_name for one in images if not os.path.isfile(folder / one.file_name)]
    if missing:
        start = counted(len(missing), "image is missing, it", "images are missing, the first")
        raise UsageError(f"{folder}: {start} is {missing[0]}")
    return sorted(images, key=lambda image: image.id)


def category_names(entries: Any, source: Path) -> dict[int, str]:
    """Category names by id (UsageError where the categories cannot be used)."""
    if entries is None:
        return {}
    if not isinstance(entries, list):
        raise UsageError(f"{source}: 'categories' is not a list")
    return dict(category_key(entry, place, source) for place, entry in enumerate(entries))
