"""Which annotations of a COCO file can be used, and what they are written as. No torch."""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

from s4m_pipeline.data.check.entries import annotation_name
from s4m_pipeline.data.check.faults import FaultCounter
from s4m_pipeline.data.clean.pictures import Pictures
from s4m_pipeline.data.formats.coco.segmentation import (
    NormalisedPolygonsError,
    bbox_areas,
    encode_segmentation,
)
from s4m_pipeline.data.formats.coco.values import crowd_of, is_whole, meant

KEYS = ("image_id", "category_id", "iscrowd")
"""What is mended: 1.0 and "1" are meant to be 1."""


@dataclass(slots=True)
class Kept:
    """What is kept of a file's annotations.

    Attributes:
        pictures: The images that are kept.
        categories: Ids of the classes.
        faults: Where to count what is left out.
        places: Places of the annotations that are kept.
        texts: By place, the text of those that are written otherwise than they stand.
        crowds: How many of them are crowds.
        mended: How many were mended.
    """

    pictures: Pictures
    categories: Collection[int]
    faults: FaultCounter
    places: list[int] = field(default_factory=list)
    texts: dict[int, str] = field(default_factory=dict)
    crowds: int = 0
    mended: int = 0
    _seen: set[tuple[int, int, str]] = field(default_factory=set)
    """Image, class and mask of annotations of images that are in the file twice."""

    def add(self, place: int, written: Any) -> None:
        """Take in an annotation: keep it, or count why it is left out."""
        entry = written
        if isinstance(written, dict):
            entry = {k: meant(v) if k in KEYS else v for k, v in written.items()}
        fault = self._reference_fault(entry)
        if fault is None:
            entry["image_id"] = self.pictures.id_of[entry["image_id"]]
            fault = self._mask_fault(entry) or self._repetition(entry)
        if fault is not None:
            kind, told = fault
            self.faults.add(kind, told or f"annotation number {place}")
            return
        self.places.append(place)
        self.crowds += crowd_of(entry)
        if repr(entry) != repr(written):
            self.texts[place] = json.dumps(entry)
            self.mended += 1

    def _reference_fault(self, entry: Any) -> tuple[str, str] | None:
        if not isinstance(entry, dict) or not is_whole(entry.get("image_id")):
            return "bad-annotation-entry", ""
        name = annotation_name(entry)
        if entry["image_id"] not in self.pictures.id_of:
            gone = entry["image_id"] in self.pictures.gone
            return ("image-left-out" if gone else "unknown-image"), name
        category = entry.get("category_id")
        if not is_whole(category) or category not in self.categories:
            return "unknown-category", f"{name}: category {json.dumps(category)}"
        return None

    def _mask_fault(self, entry: dict[str, Any]) -> tuple[str, str] | None:
        name, image = annotation_name(entry), self.pictures.images[entry["image_id"]]
        try:
            crowd_of(entry)
        except ValueError as error:
            return "bad-iscrowd", f"{name}: {error}"
        try:
            rle = encode_segmentation(entry.get("segmentation"), image.height, image.width)
        except NormalisedPolygonsError as error:
            return "normalised-polygon", f"{name}: {error}"
        except ValueError as error:
            return "bad-segmentation", f"{name}: {error}"
        (area,) = bbox_areas([rle], image.height, image.width)[1]
        return None if area else ("empty-mask", name)

    def _repetition(self, entry: dict[str, Any]) -> tuple[str, str] | None:
        """An instance that is there twice because its image is."""
        if entry["image_id"] not in self.pictures.merged:
            return None
        mask = json.dumps(entry.get("segmentation"))
        key = (entry["image_id"], entry["category_id"], mask)
        if key in self._seen:
            return "duplicate-annotation", annotation_name(entry)
        self._seen.add(key)
        return None
