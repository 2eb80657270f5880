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
    PANOPTIC,
    category_id_fault,
    class_name_fault,
    crowd_of,
    id_fault,
    image_id_fault,
    is_panoptic,
    is_whole,
    meant,
    name_fault,
    picture_name,
    reference,
    shown,
    size_fault,
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
        panoptic: How many annotations are of COCO's panoptic format; nothing else is said of them.
        alike: Pairs of places whose annotations have all but the id and the mask in common, which
            is not compared.
    """

    def __init__(self) -> None:
        self.faults = FaultCounter()
        self.by_image: dict[int, array[int]] = {}
        self.by_category: dict[str, array[int]] = {}
        self.crowds: int | None = 0
        self.panoptic = 0
        self.alike: list[tuple[int, int]] = []
        self._first: dict[int, int] = {}
        self._ids: set[str | int] = set()

    def add(self, place: int, entry: Any) -> None:
        """Take in an annotation; ``CocoText`` calls this for each."""
        if is_panoptic(entry):
            self.panoptic += 1
            return
        image_id = reference(entry, "image_id") if isinstance(entry, dict) else None
        if image_id is None:
            self.faults.add("bad-annotation-entry", _not_of_an_image(entry, place))
            return
        own = reference(entry, "id")
        key = json.dumps(entry.get("id")) if own is None else own
        if entry.get("id") is None:
            self.faults.add("bad-annotation-entry", f"annotation number {place}")
        elif key in self._ids:
            self.faults.add("duplicate-annotation-id", annotation_name(entry))
        self._ids.add(key)
        self._add_crowd(entry)
        category_id = reference(entry, "category_id")
        category = json.dumps(entry.get("category_id") if category_id is None else category_id)
        looks = hash((image_id, category, str(entry.get("bbox")), str(entry.get("area"))))
        first = self._first.setdefault(looks, place)
        if first != place:
            self.alike.append((first, place))
        self.by_image.setdefault(image_id, array("q")).append(place)
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
    key, image_id = reference(entry, "id"), reference(entry, "image_id")
    return f"annotation {entry.get('id') if key is None else key} of image {image_id}"


def _not_of_an_image(entry: Any, place: int) -> str:
    """An annotation without an image's id, for messages."""
    if not isinstance(entry, dict):
        return f"annotation number {place} is not an object"
    told = f" ({shown(entry['image_id'])})" if "image_id" in entry else ""
    return f"annotation number {place} has no whole number as 'image_id'{told}"


def check_entries(text: CocoText, references: References, faults: FaultCounter) -> list[ImageEntry]:
    """Check a file's images, categories and annotations without their masks.

    Args:
        text: The file.
        references: What its annotations refer to.
        faults: Where to count what is wrong.

    Returns:
        The usable image entries, one for each id.
    """
    _check_lists(text, references, faults)
    images, other_ids = _check_images(text.images, faults)
    categories, other_classes = _check_categories(text.other.get("categories"), faults)
    faults.merge(references.faults)
    if references.crowds:
        faults.add("only-crowds", only_crowds(references.crowds).partition("\n")[0])
    for pair in references.alike:
        _compare(text, pair, faults)
    # what is wrong with an entry, or with all of them, is not told again of its annotations
    for image_id, places in references.by_image.items():
        if text.images and image_id not in images and image_id not in other_ids:
            _add_annotations(faults, "unknown-image", places, text, "")
    for category, places in references.by_category.items():
        if categories and category not in categories and category not in other_classes:
            _add_annotations(faults, "unknown-category", places, text, f": category {category}")
    if references.by_image:
        _note_unused(images, categories, references, faults)
    return list(images.values())


def _check_lists(text: CocoText, references: References, faults: FaultCounter) -> None:
    """Check that the file's lists are there, have entries, and are those of instances."""
    if references.panoptic:
        faults.add("panoptic", f"{text.source}: {PANOPTIC}", references.panoptic)
    if not text.has_annotations:
        faults.add("no-list", "annotations")
    for key in ("annotations", "categories"):  # annotations that are a list are read apart
        if key in text.other and not isinstance(text.other[key], list):
            faults.add("no-list", key)
    if not text.images:
        return  # nor will there be anything else
    if text.has_annotations and "annotations" not in text.other and not text.count:
        faults.add("no-annotations", str(text.source))
    if text.other.get("categories", []) == []:
        faults.add("no-categories", str(text.source))


def _note_unused(
    images: Mapping[int, ImageEntry],
    categories: Mapping[str, str],
    references: References,
    faults: FaultCounter,
) -> None:
    for image in images.values():
        if image.id not in references.by_image:
            faults.add("image-without-annotations", image.name)
    for category, name in categories.items():
        if category not in references.by_category:
            faults.add("category-without-annotations", f"category {category} ({name})")


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
    return list(_check_images(entries, FaultCounter())[0].values())


def _check_images(
    entries: Iterable[Any], faults: FaultCounter
) -> tuple[dict[int, ImageEntry], set[Any]]:
    """Check the images; the usable ones by id, and the ids that the others are meant to have."""
    known: dict[int, ImageEntry] = {}
    others: set[Any] = set()
    names: set[str] = set()
    for place, entry in enumerate(entries):
        found = image_faults(entry)
        if found:
            own = f" (id {entry['id']})" if id_fault(entry) is None else ""
            faults.add("bad-image-entry", f"image number {place}{own} {' and '.join(found)}")
            others.add(meant_id(entry))
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
    return known, others


def image_faults(entry: Any) -> list[str]:
    """Say which of an image entry's id, name, height and width cannot be used, and why."""
    if not isinstance(entry, dict):
        return [str(id_fault(entry))]
    return [fault for fault in (id_fault(entry), name_fault(entry), size_fault(entry)) if fault]


def meant_id(entry: Any) -> int | None:
    """The id that an entry is meant to have: 1 for 1.0 and "1"; None where that cannot be told."""
    value = meant(entry.get("id")) if isinstance(entry, dict) else None
    return value if is_whole(value) else None


def _check_categories(entries: Any, faults: FaultCounter) -> tuple[dict[str, str], set[str]]:
    """Check the categories.

    Returns:
        The names of the usable ones by id, as JSON text, and the ids that others are meant to have.
    """
    known: dict[int, str] = {}
    others: set[int] = set()
    for place, entry in enumerate(entries if isinstance(entries, list) else []):
        found = id_fault(entry) or class_name_fault(entry)
        if found:
            own = f" (id {entry['id']})" if id_fault(entry) is None else ""
            faults.add("bad-category-entry", f"category number {place}{own} {found}")
            key = meant_id(entry)
            others |= set() if key is None else {key}
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
    for before, after in pairwise(sorted(known.keys() | others)):
        if after - before > 1:
            faults.add("category-gap", f"between category {before} and category {after}")
    return {json.dumps(key): name for key, name in known.items()}, {json.dumps(k) for k in others}


def _add_annotations(
    faults: FaultCounter, kind: str, places: array[int], text: CocoText, tail: str
) -> None:
    """Count annotations that share a fault; only as many are parsed as can be examples."""
    for place in places[:EXAMPLES]:
        faults.add(kind, annotation_name(json.loads(text.annotation(place))) + tail)
    if len(places) > EXAMPLES:
        faults.add(kind, "", len(places) - EXAMPLES)
