"""Checks of a COCO file's entries: ids, names and references. No image is opened. No torch."""

from __future__ import annotations

import json
from array import array
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from s4m_pipeline.data.check.faults import EXAMPLES, FaultCounter
from s4m_pipeline.data.folders import ImagesFolder
from s4m_pipeline.data.formats.coco.text import CocoText
from s4m_pipeline.data.formats.coco.values import (
    category_id_fault,
    crowd_of,
    image_id_fault,
    is_file_name,
    is_size,
    is_text,
    picture_name,
)
from s4m_pipeline.data.image_set import only_crowds


@dataclass(frozen=True, slots=True)
class ImageEntry:
    """A usable image entry; height and width in pixels."""

    id: int
    file_name: str
    height: int
    width: int

    @property
    def name(self) -> str:
        """How the image is named to the user."""
        return f"image {self.id} ({self.file_name})"


def split_outside(
    folder: Path, images: Sequence[ImageEntry], allowed: bool
) -> tuple[list[ImageEntry], list[ImageEntry]]:
    """Part the entries whose file is in the folder of images from those that lead out of it.

    Args:
        folder: The folder.
        images: The entries.
        allowed: Whether names may lead out of it, so that all are of the first kind.
    """
    gate = ImagesFolder(folder)
    leaving = {id(image) for image in images if not allowed and gate.leaves(image.file_name)}
    inside = [image for image in images if id(image) not in leaving]
    return inside, [image for image in images if id(image) in leaving]


class References:
    """Collects, while a file is read, what its annotations refer to.

    Attributes:
        faults: What is wrong with the annotations themselves.
        by_image: Places of the annotations by image id.
        by_category: Places of the annotations by category id, as JSON text.
        crowds: How many annotations are crowds; None once one is not, or cannot be told.
        alike: Pairs of places whose annotations have all but the id and the mask in common, which
            is not compared.
    """

    def __init__(self) -> None:
        self.faults = FaultCounter()
        self.by_image: dict[int, array[int]] = {}
        self.by_category: dict[str, array[int]] = {}
        self.crowds: int | None = 0
        self.alike: list[tuple[int, int]] = []
        self._first: dict[int, int] = {}
        self._ids: set[str | int] = set()

    def add(self, place: int, entry: Any) -> None:
        """Take in an annotation; ``CocoText`` calls this for each."""
        if not isinstance(entry, dict) or type(entry.get("image_id")) is not int:
            self.faults.add("bad-annotation-entry", f"annotation number {place}")
            return
        key = entry.get("id")
        key = key if type(key) is int else json.dumps(key)
        if entry.get("id") is None:
            self.faults.add("bad-annotation-entry", f"annotation number {place}")
        elif key in self._ids:
            self.faults.add("duplicate-annotation-id", annotation_name(entry))
        self._ids.add(key)
        self._add_crowd(entry)
        category = json.dumps(entry.get("category_id"))
        looks = hash((entry["image_id"], category, str(entry.get("bbox")), str(entry.get("area"))))
        first = self._first.setdefault(looks, place)
        if first != place:
            self.alike.append((first, place))
        self.by_image.setdefault(entry["image_id"], array("q")).append(place)
        self.by_category.setdefault(category, array("q")).append(place)

    def _add_crowd(self, entry: Mapping[str, Any]) -> None:
        """Count an annotation that is a crowd."""
        is_crowd = False
        try:
            is_crowd = crowd_of(entry)
        except ValueError as error:
            self.faults.add("bad-iscrowd", f"{annotation_name(entry)}: {error}")
        self.crowds = self.crowds + 1 if is_crowd and self.crowds is not None else None


def annotation_name(entry: Mapping[str, Any]) -> str:
    """How an annotation is named to the user."""
    return f"annotation {entry.get('id')} of image {entry['image_id']}"


def check_entries(text: CocoText, references: References, faults: FaultCounter) -> list[ImageEntry]:
    """Check a file's images, categories and annotations without their masks.

    Args:
        text: The file.
        references: What its annotations refer to.
        faults: Where to count what is wrong.

    Returns:
        The usable image entries, one for each id.
    """
    if not text.has_annotations:
        faults.add("no-list", "annotations")
    for key in ("annotations", "categories"):  # annotations that are a list are read apart
        if key in text.other and not isinstance(text.other[key], list):
            faults.add("no-list", key)
    images = _check_images(text.images, faults)
    categories = _check_categories(text.other.get("categories"), faults)
    faults.merge(references.faults)
    if references.crowds:
        faults.add("only-crowds", only_crowds(references.crowds).partition("\n")[0])
    for pair in references.alike:
        _compare(text, pair, faults)
    for image_id, places in references.by_image.items():
        if image_id not in images:
            _add_annotations(faults, "unknown-image", places, text, "")
    for category, places in references.by_category.items():
        if category not in categories:
            _add_annotations(faults, "unknown-category", places, text, f": category {category}")
    for image in images.values():
        if image.id not in references.by_image:
            faults.add("image-without-annotations", image.name)
    for category, name in categories.items():
        if category not in references.by_category:
            faults.add("category-without-annotations", f"category {category} ({name})")
    return list(images.values())


def _compare(text: CocoText, places: tuple[int, int], faults: FaultCounter) -> None:
    """Count the second of two annotations where it repeats the first under another id."""
    first, second = (json.loads(text.annotation(place)) for place in places)
    names = ("image_id", "category_id", "segmentation")
    if first.get("id") == second.get("id") or not second.get("segmentation"):
        return  # counted elsewhere
    if all(first.get(name) == second.get(name) for name in names):
        example = f"{annotation_name(second)} is annotation {first.get('id')}"
        faults.add("duplicate-annotation", example)


def usable_images(entries: Iterable[Any]) -> list[ImageEntry]:
    """Take the usable entries of a file's images."""
    return list(_check_images(entries, FaultCounter()).values())


def _check_images(entries: Iterable[Any], faults: FaultCounter) -> dict[int, ImageEntry]:
    known: dict[int, ImageEntry] = {}
    names: set[str] = set()
    for place, entry in enumerate(entries):
        if not _is_image_entry(entry):
            faults.add("bad-image-entry", f"image number {place}")
            continue
        image = ImageEntry(*(entry[key] for key in ("id", "file_name", "height", "width")))
        fault = image_id_fault(image.id)
        if fault is not None:
            faults.add("bad-id", f"{image.name}: {fault}")
        if image.id in known:
            faults.add("duplicate-image-id", image.name)
        name = picture_name(image.file_name)
        if name in names:
            faults.add("duplicate-file-name", image.name)
        names.add(name)
        known.setdefault(image.id, image)
    return known


def _is_image_entry(entry: Any) -> bool:
    return (
        isinstance(entry, dict)
        and type(entry.get("id")) is int
        and is_file_name(entry.get("file_name"))
        and bool(entry["file_name"])
        and is_size(entry.get("height"), entry.get("width"))
    )


def _is_category_entry(entry: Any) -> bool:
    return isinstance(entry, dict) and type(entry.get("id")) is int and is_text(entry.get("name"))


def _check_categories(entries: Any, faults: FaultCounter) -> dict[str, str]:
    """Check the categories; their names by id, as JSON text."""
    known: dict[int, str] = {}
    for place, entry in enumerate(entries if isinstance(entries, list) else []):
        if not _is_category_entry(entry):
            faults.add("bad-category-entry", f"category number {place}")
            continue
        name = f"category {entry['id']} ({entry['name']})"
        if entry["id"] in known:
            faults.add("duplicate-category-id", name)
        if entry["name"] in known.values():
            faults.add("duplicate-category-name", name)
        fault = category_id_fault(entry["id"])
        if fault is not None:
            faults.add("bad-id", f"{name}: {fault}")
        known.setdefault(entry["id"], entry["name"])
    ids = sorted(known)
    for before, after in pairwise(ids):
        if after - before > 1:
            faults.add("category-gap", f"between category {before} and category {after}")
    return {json.dumps(key): name for key, name in known.items()}


def _add_annotations(
    faults: FaultCounter, kind: str, places: array[int], text: CocoText, tail: str
) -> None:
    """Count annotations that share a fault; only as many are parsed as can be examples."""
    for place in places[:EXAMPLES]:
        faults.add(kind, annotation_name(json.loads(text.annotation(place))) + tail)
    if len(places) > EXAMPLES:
        faults.add(kind, "", len(places) - EXAMPLES)
