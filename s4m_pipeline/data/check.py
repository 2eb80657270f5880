"""Looking a COCO file over: every kind of fault with its count, none of them fatal. No torch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from s4m_pipeline.data.coco import load_coco_json
from s4m_pipeline.data.images import image_size
from s4m_pipeline.data.segmentation import bbox_areas, encode_segmentation
from s4m_pipeline.errors import UsageError

EXAMPLES = 5
AREA_TOLERANCE = 0.1
"""How far an annotation's area may be from its mask's, as a share and at least in 10 pixels."""
FAULTS = {
    "missing-image": "images whose file is missing",
    "unreadable-image": "images whose header cannot be read",
    "size-mismatch": "images whose size is not the file's",
    "bad-image-entry": "image entries without id, file name, height or width",
    "duplicate-image-id": "image ids there more than once",
    "duplicate-file-name": "file names there more than once",
    "bad-annotation-entry": "annotations that are no objects",
    "duplicate-annotation-id": "annotation ids there more than once",
    "unknown-image": "annotations of an image that is not there",
    "unknown-category": "annotations of a category that is not there",
    "bad-segmentation": "annotations whose polygons or RLE cannot be used",
    "empty-mask": "annotations whose mask has no pixel",
    "wrong-area": "annotations whose area is not their mask's",
    "image-without-annotations": "images without annotations",
    "category-without-annotations": "categories without annotations",
}
"""Kinds of fault, each with what it says."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One kind of fault in a file.

    Attributes:
        kind: A key of ``FAULTS``.
        count: How often it occurs.
        examples: The first few, each naming image, annotation or category.
    """

    kind: str
    count: int
    examples: tuple[str, ...]

    @property
    def text(self) -> str:
        """What the fault is, how often, and its examples, each on an indented line of its own."""
        lines = [f"{FAULTS[self.kind]}: {self.count:,}", *(f"  {e}" for e in self.examples)]
        if self.count > len(self.examples):
            lines.append(f"  and {self.count - len(self.examples):,} more")
        return "\n".join(lines)


@dataclass(slots=True)
class _Faults:
    counts: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[str]] = field(default_factory=dict)

    def add(self, kind: str, example: str) -> None:
        self.counts[kind] += 1
        kept = self.examples.setdefault(kind, [])
        if len(kept) < EXAMPLES:
            kept.append(example)

    def listed(self) -> list[Fault]:
        return [
            Fault(kind, self.counts[kind], tuple(self.examples[kind]))
            for kind in FAULTS
            if self.counts[kind]
        ]


def check_coco(annotations: Path, images: Path) -> list[Fault]:
    """Look a COCO file and its images over.

    Args:
        annotations: The COCO file.
        images: The folder its file names are relative to.

    Returns:
        The faults found, in the order of ``FAULTS``; empty when there are none.

    Raises:
        UsageError: The file is missing, not JSON, or has no list of images.
    """
    content = load_coco_json(annotations)
    faults = _Faults()
    known = _check_images(content["images"], images, faults)
    categories = {
        entry["id"]: str(entry.get("name"))
        for entry in _as_list(content.get("categories"))
        if isinstance(entry, dict) and "id" in entry
    }
    used, annotated = _check_annotations(
        _as_list(content.get("annotations")), known, categories, faults
    )
    for image_id, entry in known.items():
        if image_id not in annotated:
            faults.add("image-without-annotations", f"image {image_id} ({entry['file_name']})")
    for category_id, name in categories.items():
        if category_id not in used:
            faults.add("category-without-annotations", f"category {category_id} ({name})")
    return faults.listed()


def _as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _check_images(entries: list[Any], folder: Path, faults: _Faults) -> dict[Any, dict[str, Any]]:
    """Check the image entries and files; return the usable entries by id."""
    known: dict[Any, dict[str, Any]] = {}
    names: set[str] = set()
    for place, entry in enumerate(entries):
        if not _is_image_entry(entry):
            faults.add("bad-image-entry", f"image number {place}")
            continue
        name = f"image {entry['id']} ({entry['file_name']})"
        if entry["id"] in known:
            faults.add("duplicate-image-id", name)
        if entry["file_name"] in names:
            faults.add("duplicate-file-name", name)
        names.add(entry["file_name"])
        known.setdefault(entry["id"], entry)
        _check_file(entry, folder / entry["file_name"], name, faults)
    return known


def _is_image_entry(entry: Any) -> bool:
    return (
        isinstance(entry, dict)
        and isinstance(entry.get("id"), int)
        and isinstance(entry.get("file_name"), str)
        and all(isinstance(entry.get(k), int) and entry[k] > 0 for k in ("height", "width"))
    )


def _check_file(entry: Mapping[str, Any], path: Path, name: str, faults: _Faults) -> None:
    if not path.is_file():
        faults.add("missing-image", name)
        return
    try:
        height, width = image_size(path)
    except UsageError:
        faults.add("unreadable-image", name)
        return
    if (height, width) != (entry["height"], entry["width"]):
        told = f"{entry['width']} x {entry['height']}, the file {width} x {height}"
        faults.add("size-mismatch", f"{name}: {told}")


def _check_annotations(
    entries: list[Any],
    images: Mapping[Any, Mapping[str, Any]],
    categories: Mapping[Any, str],
    faults: _Faults,
) -> tuple[set[Any], set[Any]]:
    """Check the annotations; return the category and image ids that they use."""
    ids: set[Any] = set()
    used, annotated = set(), set()
    for place, entry in enumerate(entries):
        if not isinstance(entry, dict) or not isinstance(entry.get("image_id"), int):
            faults.add("bad-annotation-entry", f"annotation number {place}")
            continue
        name = f"annotation {entry.get('id')} of image {entry['image_id']}"
        if entry.get("id") in ids:
            faults.add("duplicate-annotation-id", name)
        ids.add(entry.get("id"))
        if entry.get("category_id") not in categories:
            faults.add("unknown-category", f"{name}: category {entry.get('category_id')}")
        used.add(entry.get("category_id"))
        if entry["image_id"] not in images:
            faults.add("unknown-image", name)
            continue
        annotated.add(entry["image_id"])
        _check_mask(entry, images[entry["image_id"]], name, faults)
    return used, annotated


def _check_mask(
    entry: Mapping[str, Any], image: Mapping[str, Any], name: str, faults: _Faults
) -> None:
    height, width = image["height"], image["width"]
    try:
        rle = encode_segmentation(entry.get("segmentation"), height, width)
    except ValueError as error:
        faults.add("bad-segmentation", f"{name}: {error}")
        return
    area = bbox_areas([rle], height, width)[1][0]
    told = entry.get("area")
    if area == 0:
        faults.add("empty-mask", name)
    elif not isinstance(told, (int, float)) or abs(told - area) > max(10, AREA_TOLERANCE * area):
        faults.add("wrong-area", f"{name}: {told}, its mask has {area}")
