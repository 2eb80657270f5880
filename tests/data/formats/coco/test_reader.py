"""Reading COCO files, and what bad ones get."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as mask_api

from s4m_pipeline.data.formats import coco
from s4m_pipeline.data.image_set import require_images, require_instances
from s4m_pipeline.data.reading import Reading
from s4m_pipeline.errors import UsageError
from tests.small_sets import SIZES, boxes_of, coco_content, rectangle, write_json


def test_masks_boxes_and_areas_come_from_the_shapes(small_set: tuple[Path, Path]) -> None:
    found = coco.load(*small_set)
    assert [category.id for category in found.categories] == [3, 1]
    assert [image.id for image in found.images] == [0, 10, 20, 30, 40, 50]
    assert 30 not in found.instances
    for number, image in enumerate(found.images):
        entries = found.instances.get(image.id, [])
        assert len(entries) == len(boxes_of(number))
        for entry, (category_id, box) in zip(entries, boxes_of(number), strict=True):
            size = [image.height, image.width]
            mask = mask_api.decode({"size": size, "counts": entry.rle}).astype(bool)
            assert np.array_equal(mask, rectangle(image.height, image.width, *box))
            assert (entry.category_id, entry.bbox) == (category_id, box)
            assert entry.area == box[2] * box[3]
        assert image.path.is_file()


def test_unlabelled_reading_never_looks_at_annotations(small_set: tuple[Path, Path]) -> None:
    content = coco_content()
    content["annotations"] = "not even a list"
    write_json(small_set[0], content)
    found = coco.load(*small_set, masks=False)
    assert len(found.images) == 6
    assert found.instances == {}
    with pytest.raises(UsageError, match="annotations"):
        coco.load(*small_set)


def test_unlabelled_images_without_a_size_have_that_of_their_header(
    small_set: tuple[Path, Path],
) -> None:
    content = coco_content()
    for image, size in zip(content["images"], [None, 0, ...] * 2, strict=True):
        image |= {"height": size, "width": size}
        if size is ...:
            del image["height"], image["width"]
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (60, 40)).save(small_set[1] / "picture 1.png", exif=exif)
    (small_set[1] / "picture 5.png").write_text("no picture")
    write_json(small_set[0], content)
    for upright in (True, False):
        found = coco.load(*small_set, masks=False, reading=Reading(upright=upright)).images
        turned = (60, 40) if upright else (40, 60)
        wanted = [SIZES[0], turned, *SIZES[2:5], (0, 0)]  # as of a folder without a list
        assert [(image.height, image.width) for image in found] == wanted
    with pytest.raises(UsageError, match="no valid height"):
        coco.load(*small_set)
    content["images"][0] |= {"height": "40", "width": "60"}
    write_json(small_set[0], content)
    with pytest.raises(UsageError, match='no valid height \\("40"\\)'):
        coco.load(*small_set, masks=False)
    content["images"][0] |= {"height": 40, "width": None}  # a half is a fault
    with pytest.raises(UsageError, match="no valid width"):
        coco.load(write_json(small_set[0], content), small_set[1], masks=False)


def test_uncompressed_rle_and_crowds(small_set: tuple[Path, Path]) -> None:
    content = coco_content()
    mask = rectangle(40, 60, 3, 4, 5, 6)
    flat = mask.flatten(order="F")
    edges = np.flatnonzero(np.diff(flat)) + 1
    runs = np.diff([0, *edges, flat.size]).tolist()
    content["annotations"] = [
        {
            "id": 0,
            "image_id": 0,
            "category_id": 1,
            "iscrowd": 1,
            "segmentation": {"size": [40, 60], "counts": runs},
        }
    ]
    write_json(small_set[0], content)
    (found,) = coco.load(*small_set).instances[0]
    assert found.iscrowd
    assert np.array_equal(mask_api.decode({"size": [40, 60], "counts": found.rle}), mask)


def test_a_mask_without_pixels_is_left_out_and_told(small_set: tuple[Path, Path]) -> None:
    content = coco_content()
    content["annotations"][2]["segmentation"] = [[5.0, 5.0, 5.1, 5.0, 5.1, 5.1]]
    write_json(small_set[0], content)
    found = coco.load(*small_set)
    assert found.empty_masks == [2]
    assert found.instance_count == len(content["annotations"]) - 1


def _with_annotation(**changes: Any) -> dict[str, Any]:
    content = coco_content()
    content["annotations"][4].update(changes)
    return content


@pytest.mark.parametrize(
    ("segmentation", "said"),
    [
        ([[1, 2, 3, 4]], "4 numbers"),
        ([[1, 2, 3, 4, 5, 6, 7]], "7 numbers"),
        ([[1, 2, 3, 4, 5, "six"]], "not a list of finite numbers"),
        ([[1, 2, 3, 4, 5, float("nan")]], "not a list of finite numbers"),
        ([[1, 2, 3, 4, 5, 9e9]], "far outside"),
        ([], "empty"),
        (None, "no segmentation"),
        ({"size": [7, 7], "counts": "abc"}, "size"),
        ({"size": [48, 48], "counts": "04"}, "runs do not make 2304"),
        ({"size": [48, 48], "counts": "\u00e9"}, "not compressed run lengths"),
        ({"size": [48, 48], "counts": [5, 6]}, "11 pixels"),
    ],
)
def test_bad_shapes_name_annotation_and_image(
    small_set: tuple[Path, Path], segmentation: Any, said: str
) -> None:
    write_json(small_set[0], _with_annotation(segmentation=segmentation))
    with pytest.raises(UsageError, match=said) as raised:
        coco.load(*small_set)
    assert "annotation 4 of image 10 (picture 1.png)" in str(raised.value)
    assert len(str(raised.value).splitlines()) <= 3


def _twice(key: str) -> dict[str, Any]:
    content = coco_content()
    content[key].append(dict(content[key][0]))
    return content


def _image(**changes: Any) -> dict[str, Any]:
    content = coco_content()
    content["images"][2].update(changes)
    return content


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ([], "not a COCO file"),
        ({"annotations": []}, "'images'"),
        ({"images": {}}, "'images'"),
        (_with_annotation(category_id=99), "annotation 4 has category 99"),
        (_with_annotation(image_id=99), "annotation 4 is of image 99"),
        (_twice("images"), "image id 0 occurs twice"),
        (_twice("categories"), "category id 3 occurs twice"),
        (_image(id=None), "image number 2"),
        (_image(file_name=None), "image 20 has no 'file_name'"),
        (_image(file_name="picture 0.png"), "picture 0.png occurs twice"),
        (_image(height=0), "image 20 .* no valid height"),
    ],
)
def test_bad_files_are_refused(small_set: tuple[Path, Path], content: Any, said: str) -> None:
    write_json(small_set[0], content)
    with pytest.raises(UsageError, match=said) as raised:
        coco.load(*small_set)
    assert small_set[0].name in str(raised.value)
    assert raised.value.exit_code == 2


def test_missing_and_broken_json(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"absent\.json"):
        coco.load(tmp_path / "absent.json", tmp_path)
    (tmp_path / "half.json").write_text('{"images": [')
    with pytest.raises(UsageError, match="not a JSON file"):
        coco.load(tmp_path / "half.json", tmp_path)


def test_empty_sets_are_told_apart(small_set: tuple[Path, Path]) -> None:
    content = coco_content()
    content["annotations"] = []
    write_json(small_set[0], content)
    found = coco.load(*small_set)
    require_images(found, "labelled")
    with pytest.raises(UsageError, match="labelled: 6 images, but no labelled instance"):
        require_instances(found, "labelled")
    content["images"] = []
    write_json(small_set[0], content)
    with pytest.raises(UsageError, match="unlabelled: no images"):
        require_images(coco.load(*small_set), "unlabelled")


def test_roboflows_supercategory_class_is_dropped(small_set: tuple[Path, Path]) -> None:
    content = coco_content()
    content["categories"] = [
        {"id": 0, "name": "shapes", "supercategory": "none"},
        {"id": 1, "name": "box", "supercategory": "shapes"},
        {"id": 3, "name": "disc", "supercategory": "shapes"},
    ]
    write_json(small_set[0], content)
    assert [category.id for category in coco.load(*small_set).categories] == [1, 3]
    content["annotations"][0]["category_id"] = 0  # a class after all
    write_json(small_set[0], content)
    assert [category.id for category in coco.load(*small_set).categories] == [0, 1, 3]


def test_real_files(shared_dir: Path) -> None:
    data = shared_dir / "data"
    for split, images, instances in (("train", 700, 1043), ("valid", 210, 298), ("test", 70, 86)):
        folder = data / "animals7" / split
        found = coco.load(folder / "_annotations.coco.json", folder)
        assert (len(found.images), found.instance_count) == (images, instances)
    nuclei = coco.load(data / "nuclei/train/_annotations.coco.json", data / "nuclei/train")
    assert nuclei.instance_count == 3614
    path = data / "tiny_coco/annotations/instances_train2017.json"
    tiny = coco.load(path, data / "tiny_coco/images/train2017")
    crowds = sum(a["iscrowd"] for a in json.loads(path.read_text())["annotations"])
    assert crowds == sum(i.iscrowd for entries in tiny.instances.values() for i in entries) > 0
