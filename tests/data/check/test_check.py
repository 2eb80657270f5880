"""The check finds each planted fault, and nothing in a sound file."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as mask_api

from s4m_pipeline.data.check.check import FAULTS, NOTES, Fault, check_coco
from s4m_pipeline.data.check.faults import FaultCounter
from s4m_pipeline.data.check.masks import degenerate_polygon
from s4m_pipeline.errors import UsageError
from tests.small_sets import boxes_of, coco_content, write_images, write_json

OTHER_SET = {"same-file", "same-pixels", "near-duplicate", "unreadable-other"}
"""Kinds that only a comparison with another set finds; test_duplicates.py has them."""
EXIF = {"exif-hint", *(f"exif-{orientation}" for orientation in range(2, 9))}
"""Kinds of turned pictures; tests/data/test_exif.py has them."""
LEVELS = {"deep-image", "few-levels", "no-common-levels"}
"""Kinds of pictures of more than 8 bits; test_picture_levels.py has them."""
OF_THE_FILE = {"no-images", "no-list", "no-annotations", "no-categories", "panoptic", "only-crowds"}
"""Kinds that go with no other; test_entries.py has most of them."""
OTHERS = {"normalised-polygon", "outside-name", "image-left-out", "several-frames"}
NOT_PLANTED = {*OTHER_SET, *LEVELS, *EXIF, *OF_THE_FILE, *OTHERS}


def _sound_content() -> dict:
    content = coco_content()
    content["images"].pop(3)  # the image without annotations
    content["categories"] = [{"id": 3, "name": "disc"}, {"id": 2, "name": "box"}]
    boxes = [box for number in range(6) for _, box in boxes_of(number)]
    for entry, box in zip(content["annotations"], boxes, strict=True):
        entry["category_id"] = {3: 3, 1: 2}[entry["category_id"]]
        entry["area"] = box[2] * box[3]
        entry["bbox"] = list(box)
    return content


def test_a_sound_file(small_set: tuple[Path, Path]) -> None:
    write_json(small_set[0], _sound_content())
    assert check_coco(*small_set) == []
    assert check_coco(*small_set, decode=True) == []


def _plant(content: dict, folder: Path) -> None:
    """Plant each fault once."""
    annotations, images = content["annotations"], content["images"]
    images.append({"id": 70, "file_name": "gone.png", "height": 5, "width": 5})
    images.append({"id": 0, "file_name": "picture 0.png", "height": 40, "width": 60})
    images.append({"id": 80})
    images.append({"id": 90, "file_name": "text.png", "height": 5, "width": 5})
    (folder / "text.png").write_text("no image")
    Image.new("RGB", (9, 9)).save(folder / "picture 1.png")
    annotations[0]["area"] = 1
    annotations[1]["bbox"] = [0, 0, 60, 40]
    annotations[2]["segmentation"] = [[1, 2, 3, 4, 5, 6, 7]]
    annotations[4]["segmentation"] = [[5, 5, 15, 5, 15, 15, 5, 15], [8, 8, 9, 9]]
    annotations[4]["bbox"], annotations[4]["area"] = [5, 5, 10, 10], 100
    annotations.append({**annotations[5], "id": 5})
    annotations.append({**annotations[5], "id": 100, "category_id": 42})
    annotations.append({**annotations[5], "id": 101, "image_id": 42})
    annotations.append(
        {**annotations[5], "id": 102, "segmentation": [[5.0, 5.0, 5.1, 5.0, 5.1, 5.1]]}
    )
    annotations.append({**annotations[5], "id": 103})
    annotations[3]["iscrowd"] = 7
    annotations.append("text")
    content["categories"] += [
        {"id": 9, "name": "unused"},
        {"id": 3, "name": "again"},
        {"id": 10, "name": "unused"},
        {"id": "eleven", "name": "eleven"},
        {"id": 2**31, "name": "far"},
    ]


@pytest.mark.parametrize("processes", [1, 2])
def test_every_planted_fault_is_counted(small_set: tuple[Path, Path], processes: int) -> None:
    content = _sound_content()
    _plant(content, small_set[1])
    shutil.copy(small_set[1] / "picture 2.png", small_set[1] / "copy.png")
    content["images"].append({"id": 95, "file_name": "copy.png", "height": 64, "width": 36})
    write_json(small_set[0], content)
    found = {f.kind: f for f in check_coco(*small_set, decode=True, processes=processes)}
    assert {kind: fault.count for kind, fault in found.items()} == {
        **dict.fromkeys((kind for kind in (*FAULTS, *NOTES) if kind not in NOT_PLANTED), 1),
        "image-without-annotations": 3,
        "category-without-annotations": 3,
        "category-gap": 2,
    }
    assert list(found) == [kind for kind in (*FAULTS, *NOTES) if kind in found]
    assert found["size-mismatch"].examples == ("image 10 (picture 1.png): 48 x 48, the file 9 x 9",)
    assert "annotation 2 of image 0" in found["bad-segmentation"].examples[0]
    assert found["degenerate-polygon"].examples[0].endswith(": a polygon of 2 points")
    assert found["missing-image"].text == "images whose file is missing: 1\n  image 70 (gone.png)"
    assert found["wrong-bbox"].examples[0].endswith("its mask's is [18, 15, 9, 13]")
    assert found["category-gap"].examples[0] == "between category 3 and category 9"
    assert found["bad-id"].examples[0].startswith("category 2147483648 (far): category id 21474")
    assert found["repeated-image"].examples == (
        "image 95 (copy.png) is image 20 (picture 2.png), same file",
    )
    assert found["unknown-category"].examples == ("annotation 100 of image 20: category 42",)


def test_names_that_lead_out_of_the_folder(small_set: tuple[Path, Path]) -> None:
    content, (annotations, folder) = _sound_content(), small_set
    shutil.copy(folder / "picture 2.png", annotations.parent / "out.png")
    (folder / "link.png").symlink_to(annotations.parent / "out.png")
    content["images"] += [
        {"id": 91, "file_name": f"../{folder.name}/../out.png", "height": 64, "width": 36},
        {"id": 92, "file_name": str(annotations.parent / "out.png"), "height": 64, "width": 36},
        {"id": 93, "file_name": "link.png", "height": 64, "width": 36},
    ]
    write_json(annotations, content)
    for decode in (True, False):
        found = {fault.kind: fault for fault in check_coco(*small_set, decode=decode)}
        assert found.keys() == {"outside-name", "image-without-annotations"}  # none is opened
        assert found["outside-name"].count == 3
    of_other = {f.kind: f for f in check_coco(*small_set, against=[small_set])}
    assert of_other["unreadable-other"].count == 3
    found = {fault.kind: fault for fault in check_coco(*small_set, decode=True, outside=True)}
    assert found.keys() == {"image-without-annotations", "repeated-image"}


def test_an_annotation_without_an_id_is_named_by_its_place(small_set: tuple[Path, Path]) -> None:
    content = _sound_content()
    del content["annotations"][4]["id"]
    write_json(small_set[0], content)
    (fault,) = check_coco(*small_set)
    assert (fault.kind, fault.examples) == ("bad-annotation-entry", ("annotation number 4",))


@pytest.mark.parametrize(("off", "faults"), [(0, []), (1, []), (2, ["wrong-area"])])
def test_the_area_of_an_rle_is_its_masks_to_a_pixel(
    small_set: tuple[Path, Path], off: int, faults: list[str]
) -> None:
    content = _sound_content()
    image = content["images"][0]
    mask = np.zeros((image["height"], image["width"]), np.uint8, order="F")
    mask[5:25, 5:25] = 1
    rle = mask_api.encode(mask)
    entry = {"id": 900, "image_id": image["id"], "category_id": 3, "bbox": [5, 5, 20, 20]}
    entry |= {"segmentation": {"size": rle["size"], "counts": rle["counts"].decode()}}
    content["annotations"].append(entry | {"area": 400 + off, "iscrowd": 0})
    write_json(small_set[0], content)
    assert [fault.kind for fault in check_coco(*small_set)] == faults


def test_alike_annotations_with_other_masks_are_no_repetition(small_set: tuple[Path, Path]) -> None:
    content = _sound_content()
    one = content["annotations"][0]
    x, y, w, h = one["bbox"]
    diamond = [x, y + h / 2, x + w / 2, y, x + w, y + h / 2, x + w / 2, y + h]
    content["annotations"].append({**one, "id": 900, "segmentation": [diamond]})
    write_json(small_set[0], content)
    assert "duplicate-annotation" not in {fault.kind for fault in check_coco(*small_set)}


@pytest.mark.parametrize("area", [float("nan"), 0, -20, True])
def test_an_area_that_no_mask_has_is_wrong_however_small_the_mask(
    small_set: tuple[Path, Path], area: float
) -> None:
    content = _sound_content()
    content["annotations"][0] |= {
        "segmentation": [[5, 5, 8, 5, 8, 8, 5, 8]],
        "bbox": [5, 5, 3, 3],
        "area": area,
    }
    write_json(small_set[0], content)
    assert [fault.kind for fault in check_coco(*small_set)] == ["wrong-area"]


def test_only_decoding_finds_a_file_cut_short(small_set: tuple[Path, Path]) -> None:
    write_json(small_set[0], _sound_content())
    path = small_set[1] / "picture 2.png"
    Image.open(path).save(path.with_name("whole.jpg"), quality=95)
    path.write_bytes(path.with_name("whole.jpg").read_bytes()[:2000])
    assert check_coco(*small_set) == []
    (fault,) = check_coco(*small_set, decode=True)
    assert fault.kind == "unreadable-image"
    (told,) = fault.examples
    assert told.startswith("image 20 (picture 2.png): not a readable image (")
    assert "truncated" in told


@pytest.mark.parametrize(
    ("polygons", "fault"),
    [
        ([[0, 0, 10, 0, 10, 10]], None),
        ([[0, 0, 10, 10, 0, 10, 10, 0]], None),  # crosses itself: encloses something all the same
        ([[0, 0, 10, 0, 10, 0.1]], None),
        ([[0, 0, 10, 0, 5, 5], [1, 1, 2, 2]], "a polygon of 2 points"),
        ([[0, 0, 10, 10, 5, 5, 2, 2]], "a polygon of 4 points on one line"),
        ([[3, 3, 3, 3, 3, 3]], "a polygon of 3 points on one line"),
        ({"size": [1, 1], "counts": "0"}, None),
        (None, None),
    ],
)
def test_degenerate_polygons(polygons: object, fault: str | None) -> None:
    assert degenerate_polygon(polygons) == fault


def test_a_box_around_thin_tips_is_right(small_set: tuple[Path, Path]) -> None:
    content = _sound_content()
    entry = content["annotations"][0]
    entry["segmentation"] = [[10, 10, 20, 10, 20, 20, 15, 20, 15, 30, 14.9, 20, 10, 20]]
    entry["bbox"], entry["area"] = [10, 10, 10, 20], 100
    write_json(small_set[0], content)
    assert check_coco(*small_set) == []
    entry["bbox"] = [10, 10, 10, 25]
    write_json(small_set[0], content)
    assert [fault.kind for fault in check_coco(*small_set)] == ["wrong-bbox"]


def test_text_tells_how_many_more_there_are() -> None:
    examples = tuple(f"image {n}" for n in range(5))
    lines = Fault("duplicate-image-id", 1205, examples).text.splitlines()
    assert lines[0] == "image ids that occur more than once: 1,205"
    assert lines[1:-1] == [f"  {example}" for example in examples]
    assert lines[-1] == "  and 1,200 more"
    assert Fault("empty-mask", 5, examples).text.endswith("image 4")


def test_counters_of_several_processes_are_one() -> None:
    first, second = FaultCounter(), FaultCounter()
    for number in range(4):
        first.add("empty-mask", f"a {number}")
        second.add("empty-mask", f"b {number}")
    second.add("category-gap", "gap")
    first.merge(second)
    empty, gap = first.listed()
    assert (empty.count, empty.examples) == (8, ("a 0", "a 1", "a 2", "a 3", "b 0"))
    assert (gap.count, gap.is_note, empty.is_note) == (1, True, False)


def test_many_annotations_of_one_unknown_category(small_set: tuple[Path, Path]) -> None:
    content = _sound_content()
    for entry in content["annotations"][1:9]:
        entry["category_id"] = 77
    write_json(small_set[0], content)
    found = {fault.kind: fault for fault in check_coco(*small_set)}
    assert found["unknown-category"].count == 8
    assert found["unknown-category"].examples[-1] == "annotation 5 of image 20: category 77"


def test_real_faults(shared_dir: Path) -> None:
    folder = shared_dir / "data/animals7/valid"
    found = {f.kind: f.count for f in check_coco(folder / "_annotations.coco.json", folder)}
    assert set(found) == {"wrong-area"}
    assert found["wrong-area"] > 200


def test_not_json(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("{")
    with pytest.raises(UsageError, match="not a JSON"):
        check_coco(tmp_path / "a.json", tmp_path)


def test_an_unreadable_image_of_another_set_is_told(small_set: tuple[Path, Path]) -> None:
    write_json(small_set[0], _sound_content())
    other = small_set[1].parent / "other"
    write_images(other)
    for path in other.iterdir():
        Image.new("RGB", (8, 8), (9, 200, 60)).save(path)
    (other / "picture 5.png").unlink()
    found = check_coco(*small_set, against=[(small_set[0], other)])
    assert [(f.kind, f.examples) for f in found] == [
        ("unreadable-other", (f"image 50 (picture 5.png) of {small_set[0]}",))
    ]


def test_a_file_without_images_is_a_fault(tmp_path: Path) -> None:
    path = tmp_path / "empty.json"
    path.write_text('{"images": [], "annotations": [], "categories": []}')
    assert [fault.kind for fault in check_coco(path, tmp_path)] == ["no-images"]


def test_a_file_without_annotations_is_no_annotation_file(small_set: tuple[Path, Path]) -> None:
    content = _sound_content()
    del content["annotations"]
    write_json(small_set[0], content)
    found = {fault.kind: fault.examples for fault in check_coco(*small_set)}
    assert found["no-list"] == ("annotations",)


@pytest.mark.parametrize("key", ["annotations", "categories"])
def test_what_should_be_a_list_and_is_none_is_a_fault(
    small_set: tuple[Path, Path], key: str
) -> None:
    write_json(small_set[0], {**_sound_content(), key: "text"})
    found = {fault.kind: fault.examples for fault in check_coco(*small_set)}
    assert found["no-list"] == (key,)
