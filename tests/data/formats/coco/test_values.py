"""Malformed values in a COCO file: each way to read it says what is wrong, and none breaks down."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from s4m_pipeline.data.check.check import check_coco
from s4m_pipeline.data.formats import coco
from s4m_pipeline.data.formats.coco.values import file_area, is_finite, is_size, reference
from s4m_pipeline.data.split.split import SplitSource
from s4m_pipeline.errors import UsageError
from tests.small_sets import CATEGORIES, boxes_of, coco_content, write_json

HUGE = 10**400
"""More than a float can hold."""
SURROGATE = "\ud800"
"""A character that JSON can write and UTF-8 cannot."""
DEEP = "[" * 100_000
FOREIGN = "which is not in the file"


def _with(place: tuple[Any, ...], value: Any) -> dict[str, Any]:
    """The small set's file, sound but for one value in it."""
    content = coco_content()
    boxes = [box for number in range(6) for _, box in boxes_of(number)]
    for entry, box in zip(content["annotations"], boxes, strict=True):
        entry |= {"bbox": list(box), "area": box[2] * box[3]}
    inner: Any = content
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = value
    return content


ID, NAME = ("images", 0, "id"), ("images", 0, "file_name")
IMAGE, CLASS = ("annotations", 0, "image_id"), ("annotations", 0, "category_id")
MASK = ("annotations", 0, "segmentation")
MALFORMED = [
    # place, value, what reading says, the check's kind of fault, what the split says
    (IMAGE, [], FOREIGN, "bad-annotation-entry", "as 'image_id'"),
    (IMAGE, {"a": 1}, FOREIGN, "bad-annotation-entry", "as 'image_id'"),
    (IMAGE, True, FOREIGN, "bad-annotation-entry", "as 'image_id'"),
    (IMAGE, float("nan"), FOREIGN, "bad-annotation-entry", "as 'image_id'"),
    (CLASS, [], FOREIGN, "unknown-category", "as 'category_id'"),
    (CLASS, {"a": 1}, FOREIGN, "unknown-category", "as 'category_id'"),
    (CLASS, HUGE, FOREIGN, "unknown-category", FOREIGN),
    (("categories",), True, "not a list", "no-list", "not a list"),
    (("categories", 0), [], "no whole number", "bad-category-entry", "no whole number"),
    (("categories", 0, "id"), [], "no whole number", "bad-category-entry", "no whole number"),
    (("categories", 0, "id"), 3_000_000_005, "out of range", "bad-id", "out of range"),
    (("categories", 0, "id"), -(2**31) - 1, "out of range", "bad-id", "out of range"),
    (("categories", 0, "name"), SURROGATE, "not text", "bad-category-entry", "not text"),
    (("categories", 0, "name"), [], "no 'name'", "bad-category-entry", "no 'name'"),
    (ID, -1, "out of range", "bad-id", "out of range"),
    (ID, 2**63, "out of range", "bad-id", "out of range"),
    (ID, {}, "no whole number", "bad-image-entry", "no whole number"),
    (NAME, SURROGATE, "not text", "bad-image-entry", "not text"),
    (NAME, "", "no 'file_name'", "bad-image-entry", "no 'file_name'"),
    (NAME, "a" * 300, None, "missing-image", "1 image is missing"),
    (NAME, "a\0b", None, "missing-image", "1 image is missing"),
    (("images", 0, "height"), 10**30, "no valid height", "bad-image-entry", "no valid height"),
    (("images", 0, "height"), 2**26, "no valid height", "bad-image-entry", "no valid height"),
    (("annotations", 0, "bbox"), [HUGE, 0, 1, 1], None, "wrong-bbox", None),
    (("annotations", 0, "bbox"), {}, None, "wrong-bbox", None),
    (("annotations", 0, "area"), HUGE, None, "wrong-area", None),
    (("annotations", 0, "area"), [], None, "wrong-area", None),
    (("annotations", 0, "id"), SURROGATE, None, None, None),
    (("annotations", 0, "iscrowd"), [SURROGATE], "its iscrowd", "bad-iscrowd", "its iscrowd"),
    (MASK, [[HUGE, 0, 9, 0, 9, 9]], "finite numbers", "bad-segmentation", "finite numbers"),
    (MASK, [[float("nan"), 0, 9, 0, 9, 9]], "finite numbers", "bad-segmentation", "finite numbers"),
    (MASK, [[1e308, 0, -1e308, 0, 1e308, 1e308]], "far outside", "bad-segmentation", "far outside"),
    (MASK, {"size": [40, 60], "counts": [HUGE]}, "bad RLE", "bad-segmentation", "bad RLE"),
    (
        MASK,
        {"size": [40, 60], "counts": SURROGATE},
        "annotation 0",
        "bad-segmentation",
        "annotation 0",
    ),
    (("info",), SURROGATE, None, None, None),
]


def _told(call: Callable[[], Any]) -> str | None:
    """What a call says is wrong with its input; other errors, and warnings, are let through."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            call()
        except UsageError as error:
            return str(error)
    return None


def _says(found: str | None, expected: str | None) -> bool:
    return found is None if expected is None else expected in str(found)


@pytest.mark.parametrize(("place", "value", "read", "kind", "split"), MALFORMED)
def test_a_malformed_value_is_told_by_reading_check_and_split(
    small_set: tuple[Path, Path],
    tmp_path: Path,
    place: tuple[Any, ...],
    value: Any,
    read: str | None,
    kind: str | None,
    split: str | None,
) -> None:
    write_json(small_set[0], _with(place, value))
    found = _told(lambda: coco.load(*small_set))
    assert _says(found, read), found
    faults = []
    assert _told(lambda: faults.extend(check_coco(*small_set))) is None
    kinds = {fault.kind for fault in faults if not fault.is_note}
    assert kind in kinds if kind else not kinds
    assert all(fault.text.encode("utf-8") for fault in faults)

    def divide() -> None:
        source = SplitSource(*small_set)
        files = source.write(source.draw(100, 0), tmp_path / "out")
        parts = [json.loads(path.read_text()) for path in (small_set[0], files.labelled)]
        whole, written = (json.dumps(part, sort_keys=True) for part in parts)  # NaN is like NaN
        assert written == whole

    found = _told(divide)
    assert _says(found, split), found


def test_unlabelled_images_are_held_to_the_same_ids_and_names(small_set: tuple[Path, Path]) -> None:
    for place, value, word in ((ID, -1, "out of range"), (NAME, SURROGATE, "not text")):
        write_json(small_set[0], _with(place, value))
        with pytest.raises(UsageError, match=word):
            coco.load(*small_set, masks=False)


def test_a_file_that_is_nested_too_deep_is_no_json(small_set: tuple[Path, Path]) -> None:
    small_set[0].write_text(f'{{"images": {DEEP}')
    for call in (coco.load, check_coco, SplitSource):
        with pytest.raises(UsageError, match="not a JSON file"):
            call(*small_set)


def test_ids_at_the_edge_are_read(small_set: tuple[Path, Path]) -> None:
    content = coco_content()
    content["images"][0]["id"] = 2**63 - 1
    content["categories"][0]["id"] = 2**31 - 1
    for entry in content["annotations"]:
        entry["image_id"] = entry["image_id"] or 2**63 - 1
        if entry["category_id"] == CATEGORIES[0]["id"]:
            entry["category_id"] = float(2**31 - 1)  # as some exporters write whole numbers
    write_json(small_set[0], content)
    found = coco.load(*small_set)
    assert found.images[-1].id == 2**63 - 1
    ids = {instance.category_id for some in found.instances.values() for instance in some}
    assert ids == {1, 2**31 - 1}
    assert {type(category_id) for category_id in ids} == {int}


@pytest.mark.parametrize("value", [0, -1.5, 10**300, 1e308, 2**53 + 1])
def test_numbers_that_are_finite(value: float) -> None:
    assert is_finite(value)


@pytest.mark.parametrize("value", [HUGE, -HUGE, float("nan"), float("inf"), True, "1", None, []])
def test_values_that_are_no_finite_numbers(value: Any) -> None:
    assert not is_finite(value)
    assert file_area({"area": value}) is None


def test_whole_numbers_that_annotations_refer_to() -> None:
    found = [reference({"k": v}, "k") for v in (3, 3.0, 3.5, True, float("inf"), "3", None, HUGE)]
    assert found == [3, 3, None, None, None, None, None, HUGE]


def test_sizes_of_images_that_tables_can_hold() -> None:
    assert is_size(1, 2**31 - 1)
    assert is_size(46340, 46340)
    for size in ((46341, 46341), (0, 5), (5, -1), (5.0, 5), (True, 5), (None, 5), (HUGE, 1)):
        assert not is_size(*size)
