"""Which image entries and categories of a COCO file can be used, mended where it is plain how.

An id of 1.0 or "1" is meant to be 1, a size of 128.0 to be 128, a class named by a number to have
that number as its text. A size that is not there is the picture's. No torch.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from s4m_pipeline.data.check.entries import ImageEntry, image_faults
from s4m_pipeline.data.check.faults import FaultCounter
from s4m_pipeline.data.exif import TURNED
from s4m_pipeline.data.folders import ImagesFolder
from s4m_pipeline.data.formats.coco.reader import read_categories
from s4m_pipeline.data.formats.coco.values import (
    category_id_fault,
    class_name_fault,
    id_fault,
    image_id_fault,
    is_finite,
    lacks_size,
    meant,
    name_fault,
    picture_name,
    shown,
)
from s4m_pipeline.data.images import header_size, image_orientation
from s4m_pipeline.data.near_names import NearNames


@dataclass(slots=True)
class Pictures:
    """The images that a cleaned file has.

    Attributes:
        entries: Their entries, mended.
        images: The same by id.
        id_of: By every id in the file that means one of them, its id: entries of one file name are
            one image.
        merged: Ids of those that the file has twice.
        gone: Ids of images that are left out.
        mended: How many entries were mended.
    """

    entries: list[dict[str, Any]] = field(default_factory=list)
    images: dict[int, ImageEntry] = field(default_factory=dict)
    id_of: dict[int, int] = field(default_factory=dict)
    merged: set[int] = field(default_factory=set)
    gone: set[int] = field(default_factory=set)
    mended: int = 0


def usable_pictures(
    entries: Sequence[Any], folder: Path, faults: FaultCounter, outside: bool = False
) -> Pictures:
    """Take the image entries that can be used.

    Entries of one file name become one. Where two files share an id, neither can be told from the
    other in the annotations, and both are left out.

    Args:
        entries: The file's entries.
        folder: The folder of images.
        faults: Where to count what is left out.
        outside: Whether file names may lead out of the folder.
    """
    found = Pictures()
    gate, near = None if outside else ImagesFolder(folder), NearNames(folder)
    mended = [_sized(_mended(e, ("id", "height", "width")), folder, gate) for e in entries]
    names_of: dict[Any, set[str]] = {}
    for entry in mended:
        if not image_faults(entry):
            names_of.setdefault(entry["id"], set()).add(picture_name(entry["file_name"]))
    first_of: dict[str, int] = {}
    for place, (entry, written) in enumerate(zip(mended, entries, strict=True)):
        fault = _fault(entry, place, names_of, folder, gate, near)
        if fault is not None:
            faults.add(*fault)
            if isinstance(entry, dict) and id_fault(entry) is None:
                found.gone.add(entry["id"])
            continue
        image = ImageEntry(*(entry[key] for key in ("id", "file_name", "height", "width")))
        name = picture_name(image.file_name)
        if name in first_of:
            faults.add("duplicate-file-name", f"{image.name} is image {first_of[name]}")
            found.id_of.setdefault(image.id, first_of[name])
            found.merged.add(first_of[name])
            continue
        first_of[name] = found.id_of[image.id] = image.id
        found.entries.append(entry)
        found.images[image.id] = image
        found.mended += repr(entry) != repr(written)  # 1 is not written as 1.0
    found.gone -= found.id_of.keys()
    return found


def _fault(
    entry: Any,
    place: int,
    names_of: Mapping[Any, set[str]],
    folder: Path,
    gate: ImagesFolder | None,
    near: NearNames,
) -> tuple[str, str] | None:
    """The kind of fault for which an entry is left out, and the entry; None where it is not."""
    wrong = image_faults(entry)
    if wrong:
        return "bad-image-entry", f"image number {place} {' and '.join(wrong)}"
    name = f"image {entry['id']} ({entry['file_name']})"
    if image_id_fault(entry["id"]) is not None:
        return "bad-id", f"{name}: {image_id_fault(entry['id'])}"
    if len(names_of[entry["id"]]) > 1:
        return "duplicate-image-id", name
    if gate is not None and gate.leaves(entry["file_name"]):
        return "outside-name", name
    if not os.path.isfile(folder / entry["file_name"]):  # unlike Path.is_file it takes any name
        return "missing-image", name + near.hint(entry["file_name"])
    return None


def _sized(entry: Any, folder: Path, gate: ImagesFolder | None) -> Any:
    """An entry with its picture's size where it has none.

    A picture that EXIF turns on its side stays without: labels may be drawn on it either way.
    """
    if not isinstance(entry, dict) or not lacks_size(entry) or name_fault(entry):
        return entry
    path = folder / entry["file_name"]
    if (gate is not None and gate.leaves(entry["file_name"])) or not os.path.isfile(path):
        return entry
    height, width = header_size(path)
    if not height or image_orientation(path) in TURNED:
        return entry
    return {**entry, "height": height, "width": width}


def usable_categories(
    entries: Any, source: Path, used: Counter[Any], faults: FaultCounter
) -> tuple[list[Any], set[int], int]:
    """Take the categories that can be used.

    Args:
        entries: The file's entries.
        source: The file, for messages.
        used: The ids that annotations have.
        faults: Where to count what is left out.

    Returns:
        The entries, mended, the ids of the classes that reading takes from them, and how many
        were mended.

    Raises:
        UsageError: They are no list, or an id or a name occurs twice: which class an annotation is
            of cannot be told.
    """
    kept, mended = [], 0
    for place, written in enumerate(entries if isinstance(entries, list) else ()):
        entry = _mended(written, ("id",))
        if isinstance(entry, dict) and is_finite(entry.get("name")):
            entry = {**entry, "name": shown(entry["name"])}
        wrong = id_fault(entry) or class_name_fault(entry) or category_id_fault(entry["id"])
        if wrong:
            faults.add("bad-category-entry", f"category number {place} {wrong}")
        else:
            kept.append(entry)
            mended += repr(entry) != repr(written)
    listed = kept if isinstance(entries, list) else entries
    return kept, {one.id for one in read_categories(listed, source, used)}, mended


def _mended(entry: Any, keys: Sequence[str]) -> Any:
    """An entry with whole numbers where it has 1.0 or "1"."""
    if not isinstance(entry, dict):
        return entry
    return {key: meant(value) if key in keys else value for key, value in entry.items()}
