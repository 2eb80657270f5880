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

Box = tuple[float, float, float, float]


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


def image_key(entry: Any, place: int, source: Path) -> tuple[int, str]:
    """The id and file name of an image's entry.

    Args:
        entry: The entry.
        place: Its number in the list.
        source: The file.

    Raises:
        UsageError: It has none that can be used.
    """
    image_id = _own_id(entry, f"image number {place}", image_id_fault, source)
    name = entry.get("file_name")
    if not isinstance(name, str) or not name:
        raise UsageError(f"{source}: image {image_id} has no 'file_name'")
    if not is_file_name(name):
        raise UsageError(f"{source}: image {image_id} has a 'file_name' that is not text: {name!r}")
    return image_id, name


def picture_name(file_name: str) -> str:
    """A file name as two entries of one picture have in common: ``./a.jpg`` is ``a.jpg``."""
    return posixpath.normpath(file_name)


def category_key(entry: Any, place: int, source: Path) -> tuple[int, str]:
    """The id and name of a category's entry; see ``image_key``."""
    category_id = _own_id(entry, f"category number {place}", category_id_fault, source)
    name = entry.get("name")
    if not isinstance(name, str):
        raise UsageError(f"{source}: category {category_id} has no 'name'")
    if not is_text(name):
        raise UsageError(
            f"{source}: category {category_id} has a 'name' that is not text: {name!r}"
        )
    return category_id, name


def _own_id(entry: Any, called: str, fault_of: Callable[[int], str | None], source: Path) -> int:
    """An entry's own id, which must be there and in range."""
    if not isinstance(entry, dict) or not is_whole(entry.get("id")):
        raise UsageError(f"{source}: {called} has no whole number as 'id'")
    fault = fault_of(entry["id"])
    if fault is not None:
        raise UsageError(f"{source}: {fault}")
    return int(entry["id"])


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
