"""Values in a COCO file's entries: which ids, names, sizes and numbers can be used. No torch."""

from __future__ import annotations

import json
import posixpath
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from s4m_pipeline.errors import UsageError

LARGEST_IMAGE_ID = 2**63 - 1
"""Tables hold image ids in 64 bits, and faster-coco-eval refuses those below 0."""
CATEGORY_IDS = range(-(2**31), 2**31)
"""Tables hold category ids in 32 bits."""
MOST_PIXELS = 2**31 - 1
"""Pixels of an image at most: tables hold areas in 32 bits, and COCO's run lengths do as well."""

MOST_SHOWN = 40
"""Characters of a value in a message."""

NO_NAME = "has no 'file_name'"
PANOPTIC = (
    "a file in COCO's panoptic format (its annotations have 'segments_info'), which keeps masks in "
    "PNG files; give the instances file"
)

Box = tuple[float, float, float, float]


class EntryError(UsageError):
    """An entry of a COCO file cannot be used; ``s4m data clean`` can leave it out."""


def is_whole(value: Any) -> bool:
    """Whether a value is a whole number; true and false are not."""
    return type(value) is int


def is_finite(value: Any) -> bool:
    """Whether a value is a number that a float can hold; NaN, infinity and 10^400 are not."""
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        return False
    return abs(value) <= sys.float_info.max


def is_text(value: Any) -> bool:
    """Whether a value is text that can be written to a file: JSON may hold lone surrogates."""
    if not isinstance(value, str):
        return False
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def is_file_name(value: Any) -> bool:
    """Whether a value is text that can name a file: bytes that are not UTF-8 are lone surrogates.

    Python writes such a name to JSON as ``\\udcf6`` for the byte F6, and reads it back.
    """
    if not isinstance(value, str):
        return False
    try:
        value.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return False
    return True


def image_id_fault(image_id: int) -> str | None:
    """Say why a whole number cannot be an image's id, or None when it can."""
    if 0 <= image_id <= LARGEST_IMAGE_ID:
        return None
    return f"image id {image_id} is out of range: ids go from 0 to {LARGEST_IMAGE_ID}"


def category_id_fault(category_id: int) -> str | None:
    """Say why a whole number cannot be a category's id, or None when it can."""
    if category_id in CATEGORY_IDS:
        return None
    return (
        f"category id {category_id} is out of range: "
        f"ids go from {CATEGORY_IDS[0]} to {CATEGORY_IDS[-1]}"
    )


def is_size(height: Any, width: Any) -> bool:
    """Whether two values can be an image's height and width in pixels."""
    if not is_whole(height) or not is_whole(width):
        return False
    return min(height, width) > 0 and height * width <= MOST_PIXELS


def size_fault(entry: Mapping[str, Any]) -> str | None:
    """Say why an image's height and width cannot be used, or None when they can."""
    height, width = entry.get("height"), entry.get("width")
    if is_size(height, width):
        return None
    sides: tuple[tuple[str, Any], ...] = (("height", height), ("width", width))
    bad = [(name, value) for name, value in sides if not is_whole(value) or value < 1]
    told = " and ".join(f"{name} ({shown(value)})" for name, value in bad or sides)
    return f"has no valid {told}" + ("" if bad else f": more than {MOST_PIXELS:,} pixels")


def lacks_size(entry: Mapping[str, Any]) -> bool:
    """Whether an image's entry says nothing of its size: no height and width, null or 0."""
    return all(entry.get(side) is None or shown(entry[side]) == "0" for side in ("height", "width"))


def name_fault(entry: Mapping[str, Any]) -> str | None:
    """Say why an image's file name cannot be used, or None when it can."""
    name = entry.get("file_name")
    if not isinstance(name, str) or not name:
        return f"has no 'file_name' ({shown(name)})" if "file_name" in entry else NO_NAME
    return None if is_file_name(name) else f"has a 'file_name' that is not text: {name!r}"


def id_fault(entry: Any) -> str | None:
    """Say why an entry has no id, or None when it has a whole number."""
    if not isinstance(entry, dict):
        return f"has no whole number as 'id': it is {shown(entry)}, not an object"
    if is_whole(entry.get("id")):
        return None
    told = f" ({shown(entry['id'])})" if "id" in entry else ""
    return f"has no whole number as 'id'{told}"


def class_name_fault(entry: Mapping[str, Any]) -> str | None:
    """Say why a category's name cannot be used, or None when it can."""
    name = entry.get("name")
    if is_finite(name):
        return f"has a number as 'name': {shown(name)}; write it as text, \"{shown(name)}\""
    if not isinstance(name, str):
        return f"has no 'name' ({shown(name)})" if "name" in entry else "has no 'name'"
    return None if is_text(name) else f"has a 'name' that is not text: {name!r}"


def image_key(entry: Any, place: int, source: Path) -> tuple[int, str]:
    """The id and file name of an image's entry.

    Args:
        entry: The entry.
        place: Its number in the list.
        source: The file.

    Raises:
        EntryError: It has none that can be used.
    """
    image_id = _own_id(entry, f"image number {place}", image_id_fault, source)
    fault = name_fault(entry)
    if fault is not None:
        raise EntryError(f"{source}: image {image_id} {fault}")
    return image_id, entry["file_name"]


def picture_name(file_name: str) -> str:
    """A file name as two entries of one picture have in common: ``./a.jpg`` is ``a.jpg``."""
    return posixpath.normpath(file_name)


def category_key(entry: Any, place: int, source: Path) -> tuple[int, str]:
    """The id and name of a category's entry; see ``image_key``."""
    category_id = _own_id(entry, f"category number {place}", category_id_fault, source)
    fault = class_name_fault(entry)
    if fault is not None:
        raise EntryError(f"{source}: category {category_id} {fault}")
    return category_id, entry["name"]


def _own_id(entry: Any, called: str, fault_of: Callable[[int], str | None], source: Path) -> int:
    """An entry's own id, which must be there and in range."""
    fault = id_fault(entry)
    if fault is not None:
        raise EntryError(f"{source}: {called} {fault}")
    fault = fault_of(entry["id"])
    if fault is not None:
        raise EntryError(f"{source}: {fault}")
    return int(entry["id"])


def meant(value: Any) -> Any:
    """The whole number that a value was meant to be, 1 for 1.0 and "1"; else the value itself."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    is_digits = isinstance(value, str) and len(value) < 20 and value.isascii() and value.isdigit()
    return int(value) if is_digits else value


def is_panoptic(entry: Any) -> bool:
    """Whether an annotation is one of COCO's panoptic format, whose masks are in other files."""
    return isinstance(entry, dict) and "segments_info" in entry and "segmentation" not in entry


def reference(entry: Mapping[str, Any], key: str) -> int | None:
    """The id that an annotation refers to, which may be written as 3.0; None for anything else."""
    value = entry.get(key)
    if not isinstance(value, float):
        return value if is_whole(value) else None
    return int(value) if value.is_integer() else None


def crowd_of(entry: Mapping[str, Any]) -> bool:
    """Whether an annotation is a crowd of objects: its ``iscrowd``, 0 where it has none.

    Raises:
        ValueError: It is neither 0, 1, true nor false. Text such as "0" would be true.
    """
    value: Any = entry.get("iscrowd", 0)
    if not isinstance(value, (bool, int, float)) or value not in (0, 1):
        raise ValueError(f"its iscrowd is {shown(value)}, not 0, 1, true or false")
    return bool(value)


def shown(value: Any) -> str:
    """A value as JSON writes it, shortened, for messages."""
    text = json.dumps(value)
    return text if len(text) <= MOST_SHOWN else f"{text[: MOST_SHOWN - 3]}..."


def file_area(entry: Mapping[str, Any]) -> float | None:
    """The area that an annotation states, in pixels; None unless it is a number from 0 up."""
    area: Any = entry.get("area")
    return float(area) if is_finite(area) and area >= 0 else None


def file_bbox(entry: Mapping[str, Any]) -> Box | None:
    """The box that an annotation states: x, y, width, height in pixels.

    None where these are not four numbers, or a side is below 0.
    """
    box = entry.get("bbox")
    if not isinstance(box, list) or len(box) != 4 or not all(is_finite(value) for value in box):
        return None
    x, y, width, height = (float(value) for value in box)
    return (x, y, width, height) if min(width, height) >= 0 else None
