"""A cleaned file is read; what is left out is counted, and the rest stands as it stood."""

from __future__ import annotations

import json
import operator
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as mask_api

from s4m_pipeline.config_data import LabelledSet
from s4m_pipeline.data.clean.clean import Cleaned, clean
from s4m_pipeline.data.formats import coco
from s4m_pipeline.data.split.split import SplitSource
from s4m_pipeline.engine.image_sets import read_labelled
from s4m_pipeline.errors import UsageError
from tests.data.formats.coco.test_values import MALFORMED
from tests.small_sets import boxes_of, coco_content, rectangle, write_json

Files = tuple[Path, Path]


def _clean(files: Files, content: Any) -> tuple[Cleaned, dict[str, Any], Files]:
    write_json(files[0], content)
    out = files[0].with_name("clean.json")
    cleaned = clean(*files, out)
    return cleaned, json.loads(out.read_text()), (out, files[1])


def _counts(cleaned: Cleaned) -> dict[str, int]:
    return {fault.kind: fault.count for fault in cleaned.left_out}


def test_a_file_that_can_be_used_is_passed_on(small_set: Files) -> None:
    cleaned, written, _ = _clean(small_set, coco_content() | {"info": {"year": 2026}})
    assert written == coco_content() | {"info": {"year": 2026}}
    assert (cleaned.left_out, cleaned.mended, cleaned.lost_pictures) == ([], 0, False)
    assert cleaned.images == (6, 6)


def test_what_cannot_be_used_is_left_out_and_counted(small_set: Files) -> None:
    content = coco_content()
    bad = content["annotations"]
    whole = [dict(entry) for entry in bad]
    bad[0]["segmentation"] = []
    bad[1]["segmentation"] = [[0.1, 0.1, 0.4, 0.1, 0.4, 0.3]]
    bad[2]["iscrowd"] = "no"
    bad[3]["category_id"] = 99
    bad[4]["image_id"] = 99
    bad[5]["segmentation"] = [[5.0, 5.0, 5.1, 5.0, 5.1, 5.1]]
    bad.insert(6, "text")
    content["images"].append({"id": 70, "file_name": "gone.png", "height": 5, "width": 5})
    bad.append({**whole[6], "image_id": 70})
    cleaned, written, files = _clean(small_set, content)
    assert _counts(cleaned) == {
        "missing-image": 1,
        "bad-annotation-entry": 1,
        "bad-iscrowd": 1,
        "unknown-image": 1,
        "image-left-out": 1,
        "unknown-category": 1,
        "normalised-polygon": 1,
        "bad-segmentation": 1,
        "empty-mask": 1,
    }
    assert cleaned.lost_pictures
    assert written["annotations"] == whole[6:]
    assert cleaned.annotations == (len(whole) - 6, len(bad))
    found = coco.load(*files)
    assert found.empty == {}
    for number, image in enumerate(found.images):  # the masks, drawn by numpy
        boxes = [box for n in (number,) for _, box in boxes_of(n)]
        labels = found.instances.get(image.id, [])
        for label, box in zip(reversed(labels), reversed(boxes), strict=False):
            coded = {"size": [image.height, image.width], "counts": label.rle}
            assert np.array_equal(
                mask_api.decode(coded), rectangle(image.height, image.width, *box)
            )


@pytest.mark.parametrize(("place", "value", "read", "kind", "split"), MALFORMED)
def test_what_reading_refuses_is_read_when_cleaned(
    small_set: Files, place: tuple[Any, ...], value: Any, read: str, kind: str, split: str
) -> None:
    del read, kind, split
    content: Any = coco_content()
    inner = content
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = value
    write_json(small_set[0], content)
    try:
        coco.load(*small_set)
        told = ""
    except UsageError as error:
        told = str(error)
    out = small_set[0].with_name("clean.json")
    try:
        clean(*small_set, out)
    except UsageError:
        assert "s4m data clean" not in told  # the categories are no list
        assert not out.exists()
        return
    assert told == "" or "s4m data clean" in told
    section = LabelledSet(annotations=out, images=small_set[1])
    assert read_labelled(section, "data.labelled").instance_count >= 5
    SplitSource(out, small_set[1])


def test_a_picture_that_is_listed_twice_becomes_one(small_set: Files) -> None:
    content = coco_content()
    whole = content["annotations"]
    own = [entry for entry in whole if entry["image_id"] == 10]
    content["images"].append({**content["images"][1], "id": 1000})
    again = [{**entry, "id": 500 + n, "image_id": 1000} for n, entry in enumerate(own)]
    other = {**own[0], "id": 600, "image_id": 1000, "segmentation": [[1, 1, 4, 1, 4, 4, 1, 4]]}
    cleaned, written, files = _clean(small_set, content | {"annotations": [*whole, *again, other]})
    assert _counts(cleaned) == {"duplicate-file-name": 1, "duplicate-annotation": len(own)}
    assert not cleaned.lost_pictures
    assert written["annotations"] == [*whole, {**other, "image_id": 10}]
    assert len(coco.load(*files).instances[10]) == len(own) + 1


def test_two_pictures_of_one_id_are_both_left_out(small_set: Files) -> None:
    content = coco_content()
    content["images"][1]["id"] = 0
    cleaned, written, _ = _clean(small_set, content)
    of_both = sum(entry["image_id"] == 0 for entry in content["annotations"])
    lost = sum(entry["image_id"] == 10 for entry in content["annotations"])
    assert _counts(cleaned) == {
        "duplicate-image-id": 2,
        "image-left-out": of_both,
        "unknown-image": lost,
    }
    assert {image["id"] for image in written["images"]} == {20, 30, 40, 50}


def test_what_is_plain_is_mended(small_set: Files) -> None:
    content = coco_content()
    wanted = json.dumps(coco_content(), sort_keys=True)
    for image in content["images"]:
        image |= {"id": str(image["id"]), "height": float(image["height"])}
    for entry in content["annotations"]:
        entry |= {"image_id": str(entry["image_id"]), "iscrowd": "0"}
        entry["category_id"] = float(entry["category_id"])
    content["categories"][0] |= {"id": "3", "name": 7}
    cleaned, written, _ = _clean(small_set, content)
    assert cleaned.left_out == []
    assert cleaned.mended == 6 + len(content["annotations"]) + 1  # images, annotations, a class
    assert written["categories"][0] == {"id": 3, "name": "7"}
    written["categories"][0]["name"] = "disc"
    assert json.dumps(written, sort_keys=True) == wanted


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"annotations": []}, "no annotations in it"),
        ({"categories": 7}, "'categories' is not a list"),
        ({"categories": [{"id": 1, "name": "a"}, {"id": 1, "name": "b"}]}, "id 1 occurs twice"),
        ({"categories": [{"id": 1, "name": "a"}, {"id": 3, "name": "a"}]}, "both named 'a'"),
        ({"annotations": [{"id": 1, "image_id": 1, "segments_info": []}]}, "panoptic format"),
        ({"categories": []}, "not one of the 13 annotations can be used, nothing is left"),
    ],
)
def test_what_cannot_be_cleaned_is_refused(
    small_set: Files, change: dict[str, Any], said: str
) -> None:
    out = small_set[0].with_name("clean.json")
    write_json(small_set[0], coco_content() | change)
    with pytest.raises(UsageError, match=said):
        clean(*small_set, out)
    assert not out.exists()


def test_a_size_that_is_not_there_is_the_pictures(small_set: Files) -> None:
    content = coco_content()
    for n, (height, width) in enumerate([(0, 0), (None, None), (0, None), (0.0, "0")]):
        content["images"][n] |= {"height": height, "width": width}
    for side in ("height", "width"):
        del content["images"][4][side]
    cleaned, written, out = _clean(small_set, content)
    assert (cleaned.left_out, cleaned.mended) == ([], 5)
    key = operator.itemgetter("id")
    assert sorted(written["images"], key=key) == coco_content()["images"]
    sizes = [Image.open(image.path).size[::-1] for image in coco.load(*out).images]
    assert sizes == [(image["height"], image["width"]) for image in written["images"]]


def test_a_size_that_the_picture_does_not_tell_is_left_out(small_set: Files) -> None:
    content = coco_content()
    for n in range(3):
        content["images"][n] |= {"height": 0, "width": 0}
    content["images"][3] |= {"height": 0}  # one side is there: the picture may be another
    exif = Image.Exif()
    exif[0x0112] = 6  # shown on its side: labels may have been drawn on it either way
    Image.new("RGB", (60, 40)).save(small_set[1] / "picture 0.png", exif=exif)
    (small_set[1] / "picture 1.png").write_text("no picture")
    (small_set[1] / "picture 2.png").unlink()
    cleaned, written, _ = _clean(small_set, content)
    assert _counts(cleaned)["bad-image-entry"] == 4
    assert written["images"] == content["images"][4:]


def test_a_missing_file_is_told_with_the_one_that_it_may_be(small_set: Files) -> None:
    content = coco_content()
    content["images"][0]["file_name"] = "images\\PICTURE 0.PNG"
    (fault, _) = _clean(small_set, content)[0].left_out
    assert fault.kind == "missing-image"
    assert fault.examples[0].endswith("; there is one named picture 0.png")
    for image in content["images"]:
        image["file_name"] = image["file_name"].replace(" ", "\\ ").upper()
    write_json(small_set[0], content)
    with pytest.raises(UsageError, match="6, the first is image 0"):
        clean(*small_set, small_set[0].with_name("clean.json"))


def test_the_wrong_folder_is_told_by_its_cause(small_set: Files, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="images whose file is missing: 6, the first is image 0"):
        clean(small_set[0], tmp_path / "empty", tmp_path / "clean.json")


def test_crowds_alone_are_refused_and_the_file_is_not_replaced(small_set: Files) -> None:
    with pytest.raises(UsageError, match="would be replaced"):
        clean(*small_set, small_set[0])
    content = coco_content()
    for entry in content["annotations"]:
        entry["iscrowd"] = 1
    write_json(small_set[0], content)
    with pytest.raises(UsageError, match="13 of 13 annotations are crowds"):
        clean(*small_set, small_set[0].with_name("clean.json"))


def test_the_case_that_people_have(shared_dir: Path, tmp_path: Path) -> None:
    shutil.copytree(shared_dir / "cases/10-one-bad-annotation-stops-all/scenes", tmp_path / "s")
    files = (tmp_path / "s/labelled.json", tmp_path / "s/labelled")
    for read in (coco.load, SplitSource):
        with pytest.raises(UsageError, match=r"annotation 1 of image 1 .*\n.*s4m data clean --ann"):
            read(*files)
    content = json.loads(files[0].read_text())
    cleaned, written, out = _clean(files, content)
    assert _counts(cleaned) == {"bad-segmentation": 1}
    assert written["annotations"] == content["annotations"][1:]
    assert coco.load(*out).instance_count == len(content["annotations"]) - 1


def test_names_that_lead_out_of_the_folder_are_left_out(small_set: Files, tmp_path: Path) -> None:
    content = coco_content()
    (small_set[1] / "picture 0.png").rename(tmp_path / "secret.png")
    content["images"][0]["file_name"] = "../secret.png"
    cleaned, written, _ = _clean(small_set, content)
    assert _counts(cleaned) == {"outside-name": 1, "image-left-out": 3}
    assert cleaned.lost_pictures
    assert len(written["images"]) == 5
    out = tmp_path / "all.json"
    assert clean(*small_set, out, outside=True).left_out == []
