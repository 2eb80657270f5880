"""What the check says of entries: the cause, and once; and of files that are something else."""

from __future__ import annotations

import shutil
import unicodedata
from pathlib import Path
from typing import Any

import pytest

from s4m_pipeline.config_data import LabelledSet
from s4m_pipeline.data.check.check import Fault, check_coco
from s4m_pipeline.data.formats import coco
from s4m_pipeline.data.near_names import NearNames
from s4m_pipeline.data.split.split import SplitSource
from s4m_pipeline.errors import UsageError
from tests.small_sets import boxes_of, coco_content, write_json


def _sound() -> dict[str, Any]:
    content = coco_content()
    boxes = [box for number in range(6) for _, box in boxes_of(number)]
    for entry, box in zip(content["annotations"], boxes, strict=True):
        entry |= {"bbox": list(box), "area": box[2] * box[3]}
    content["images"].pop(3)
    content["categories"][1]["id"] = 2
    for entry in content["annotations"]:
        entry["category_id"] = {3: 3, 1: 2}[entry["category_id"]]
    return content


def _told(files: tuple[Path, Path], content: Any) -> list[Fault]:
    write_json(files[0], content)
    return check_coco(*files)


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        ({"height": 0}, "has no valid height (0)"),
        ({"height": 0, "width": None}, "has no valid height (0) and width (null)"),
        ({"width": 60.0}, "has no valid width (60.0)"),
        ({"width": "60"}, 'has no valid width ("60")'),
        (
            {"width": 2**26},
            "has no valid height (40) and width (67108864): more than 2,147,483,647 pixels",
        ),
        ({"file_name": 7}, "has no 'file_name' (7)"),
        ({"file_name": ""}, "has no 'file_name' (\"\")"),
        ({"file_name": "", "height": -1}, "has no 'file_name' (\"\") and has no valid height (-1)"),
    ],
)
def test_an_image_entry_is_told_by_its_cause_and_once(
    small_set: tuple[Path, Path], change: dict[str, Any], cause: str
) -> None:
    content = _sound()
    content["images"][0].update(change)
    (fault,) = _told(small_set, content)
    assert (fault.kind, fault.examples) == (
        "bad-image-entry",
        (f"image number 0 (id 0) {cause}",),
    )


@pytest.mark.parametrize(("value", "shown"), [("0", '"0"'), (0.0, "0.0")])
def test_an_image_id_of_another_type_is_told_once(
    small_set: tuple[Path, Path], value: Any, shown: str
) -> None:
    content = _sound()
    content["images"][0]["id"] = value
    (fault,) = _told(small_set, content)
    assert fault.examples == (f"image number 0 has no whole number as 'id' ({shown})",)


def test_a_number_as_class_name_is_told_once(small_set: tuple[Path, Path]) -> None:
    content = _sound()
    content["categories"][0]["name"] = 0
    (fault,) = _told(small_set, content)
    said = "has a number as 'name': 0; write it as text, \"0\""
    assert fault.examples == (f"category number 0 (id 3) {said}",)
    for read in (coco.load, SplitSource):
        with pytest.raises(UsageError, match=r"category 3 has a number as 'name': 0; write it"):
            read(*small_set)


def test_ids_written_as_floats_are_read_as_training_reads_them(
    small_set: tuple[Path, Path],
) -> None:
    content = _sound()
    for entry in content["annotations"]:
        for key in ("id", "image_id", "category_id"):
            entry[key] = float(entry[key])
    assert _told(small_set, content) == []
    assert coco.load(*small_set).instance_count == len(content["annotations"])
    SplitSource(*small_set)
    content["annotations"][0] |= {"area": 1, "id": 77.0}
    assert _told(small_set, content)[0].examples[0].startswith("annotation 77 of image 0: ")


@pytest.mark.parametrize(
    ("change", "kinds"),
    [
        ({"annotations": []}, ["no-annotations"]),
        ({"categories": []}, ["no-categories"]),
        ({"categories": None}, ["no-list"]),
        ({"categories": [], "annotations": []}, ["no-annotations", "no-categories"]),
        ({"images": []}, ["no-images"]),
    ],
)
def test_empty_lists_are_faults_and_nothing_follows(
    small_set: tuple[Path, Path], change: dict[str, Any], kinds: list[str]
) -> None:
    found = _told(small_set, _sound() | change)
    assert [fault.kind for fault in found] == kinds
    assert not any(fault.is_note for fault in found)


def test_a_file_without_categories_has_the_fault_too(small_set: tuple[Path, Path]) -> None:
    content = _sound()
    del content["categories"]
    assert [fault.kind for fault in _told(small_set, content)] == ["no-categories"]


def test_a_file_named_twice_is_no_second_picture(small_set: tuple[Path, Path]) -> None:
    content = _sound()
    content["images"].append({**content["images"][0], "id": 7, "file_name": "./picture 0.png"})
    write_json(small_set[0], content)
    found = [fault.kind for fault in check_coco(*small_set, decode=True)]
    assert found == ["duplicate-file-name", "image-without-annotations"]


def test_a_panoptic_file_is_called_so(small_set: tuple[Path, Path]) -> None:
    content = _sound()
    segments = [{"id": 8, "category_id": 3, "bbox": [1, 1, 5, 5], "area": 9, "iscrowd": 0}]
    content["annotations"] = [
        {"image_id": image["id"], "file_name": "0.png", "segments_info": segments}
        for image in content["images"]
    ]
    (fault,) = _told(small_set, content)
    assert (fault.kind, fault.count) == ("panoptic", 5)
    for read in (coco.load, SplitSource):
        with pytest.raises(UsageError, match="panoptic format"):
            read(*small_set)


def test_coordinates_from_0_to_1_are_told_as_such(small_set: tuple[Path, Path]) -> None:
    content = _sound()
    sizes = {image["id"]: (image["height"], image["width"]) for image in content["images"]}
    for entry in content["annotations"]:
        height, width = sizes[entry["image_id"]]
        x, y, w, h = entry["bbox"]
        corners = [x, y, x + w, y, x + w, y + h, x, y + h]
        scale = (width, height)
        entry["segmentation"] = [[value / scale[n % 2] for n, value in enumerate(corners)]]
    (fault,) = _told(small_set, content)
    assert (fault.kind, fault.count) == ("normalised-polygon", len(content["annotations"]))
    said = "all its numbers lie from 0 to 1, as shares of the image's sides do"
    assert said in fault.examples[0]
    for read in (coco.load, SplitSource):
        with pytest.raises(UsageError, match=said):
            read(*small_set)


def test_a_part_of_a_mask_may_lie_in_the_corner_pixel(small_set: tuple[Path, Path]) -> None:
    content = _sound()
    content["annotations"][0]["segmentation"].append([0, 0, 1, 0, 1, 1, 0, 1])
    write_json(small_set[0], content)
    coco.load(*small_set)
    assert "normalised-polygon" not in {fault.kind for fault in check_coco(*small_set)}


@pytest.mark.parametrize(
    ("written", "there"),
    [
        ("sub\\picture.png", "sub/picture.png"),
        ("Sub/PICTURE.PNG", "sub/picture.png"),
        ("picture.png", "sub/picture.png"),
        ("elsewhere/picture.png", "sub/picture.png"),
        ("C:\\data\\picture.png", "sub/picture.png"),
        (unicodedata.normalize("NFD", "é.png"), unicodedata.normalize("NFC", "é.png")),
        (unicodedata.normalize("NFC", "å.png"), unicodedata.normalize("NFD", "å.png")),
    ],
)
def test_a_missing_file_that_is_nearly_there(
    small_set: tuple[Path, Path], written: str, there: str
) -> None:
    path = small_set[1] / there
    path.parent.mkdir(exist_ok=True)
    (small_set[1] / "picture 0.png").rename(path)
    content = _sound()
    content["images"][0]["file_name"] = written
    (fault,) = _told(small_set, content)
    hint = f"; there is one named {there}"
    assert fault.kind == "missing-image"
    assert fault.examples == (f"image 0 ({written}){hint}",)
    with pytest.raises(UsageError) as raised:
        SplitSource(*small_set)
    assert str(raised.value).endswith(hint)


def test_nothing_is_said_of_a_file_that_is_not_there(small_set: tuple[Path, Path]) -> None:
    assert NearNames(small_set[1]).hint("gone.png") == ""
    assert NearNames(small_set[1] / "no folder").hint("gone.png") == ""


def test_the_cases_that_people_have(shared_dir: Path, tmp_path: Path) -> None:
    shutil.copytree(shared_dir / "cases/11-entry-messages/scenes", tmp_path / "scenes")
    folder = tmp_path / "scenes"
    found = {
        name: [fault for fault in check_coco(folder / name, folder / "labelled")]
        for name in ("ids-float.json", "names-numbers.json", "sizes-float.json", "sizes-zero.json")
    }
    faults = {name: [f.kind for f in some if not f.is_note] for name, some in found.items()}
    assert faults == {
        "ids-float.json": [],
        "names-numbers.json": ["bad-category-entry"],
        "sizes-float.json": ["bad-image-entry"],
        "sizes-zero.json": ["bad-image-entry"],
    }
    assert "no valid height (0) and width (0)" in found["sizes-zero.json"][0].text
    assert "no valid height (128.0) and width (128.0)" in found["sizes-float.json"][0].text
    shutil.copytree(shared_dir / "cases/12-file-name-forms/scenes", tmp_path / "names")
    folder = tmp_path / "names"
    section = LabelledSet(annotations=folder / "labelled.json", images=folder / "labelled")
    (fault,) = [f for f in check_coco(section.annotations, section.images) if not f.is_note]
    assert fault.examples[0].endswith("; there is one named images/000001.jpg")
