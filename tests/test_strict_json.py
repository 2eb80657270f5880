"""JSON that Python's own module would read otherwise than written is refused, by name."""

from __future__ import annotations

import json

import pytest

from s4m_pipeline.artifacts.manifest import Manifest, read_manifest, write_manifest
from s4m_pipeline.data.check.check import check_coco
from s4m_pipeline.data.clean.clean import clean
from s4m_pipeline.data.formats.coco import load
from s4m_pipeline.data.formats.coco.text import CocoText
from s4m_pipeline.data.split.lists import read_list
from s4m_pipeline.errors import ArtifactError, UsageError
from s4m_pipeline.strict_json import JsonError, RepeatedKeyError, read_json
from tests.small_sets import coco_content, write_images

VALUE = {"a": [1, 2.5, None, True, "ä", {"b": {}}], "c": {"a": "a"}}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-be", "utf-32"])
def test_every_encoding_of_json_is_read(encoding):
    assert read_json(json.dumps(VALUE, ensure_ascii=False).encode(encoding)) == VALUE


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"id": 5, "bbox": 1, "bbox": 2}', "'bbox' stands twice in {'bbox': 2, 'id': 5}"),
        ('[{"a": {"k": 1, "\\u006b": 1}}]', "'k' stands twice in {'k': 1}"),  # the same letter
        ("[" * 100_000, "too deep"),
        ("9" * 5000, "thousands of digits"),
        ('{"a": }', "not a JSON file (Expecting value: line 1 column 7"),
        (b'{"\xff": 1}', "not a JSON file (invalid start byte at byte 2"),
        ("", "not a JSON file"),
    ],
)
def test_what_would_be_read_otherwise_is_an_error_of_one_kind(text, said):
    with pytest.raises(JsonError) as error:
        read_json(text)
    assert said in str(error.value)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 300


def test_long_values_do_not_fill_the_message():
    entry = f'{{"id": 7, "segmentation": {list(range(5000))}, "area": 1, "area": {"2" * 400}}}'
    with pytest.raises(RepeatedKeyError) as error:
        read_json(entry)
    assert "'id': 7" in str(error.value)
    assert len(str(error.value)) < 300


COCO = json.dumps(coco_content())
TWICE = {
    "an annotation's key": COCO.replace('"iscrowd": 0', '"iscrowd": 1, "iscrowd": 0', 1),
    "an image's key": COCO.replace('"height":', '"height": 3, "height":', 1),
    "a class's key": COCO.replace('"name": "disc"', '"name": "box", "name": "disc"', 1),
    "annotations": COCO[:-1] + ', "annotations": []}',
    "images": COCO[:-1] + ', "images": []}',
    "annotations, the first no list": '{"annotations": 5, ' + COCO[1:],
}


def readers(path, folder):
    return {
        "load": lambda: load(path, folder),
        "without masks": lambda: load(path, folder, masks=False),
        "text": lambda: CocoText(path, lambda place, entry: None),
        "check": lambda: check_coco(path, folder),
        "clean": lambda: clean(path, folder, path.with_name("out.json")),
        "split list": lambda: read_list(path),
    }


@pytest.mark.parametrize("kind", TWICE)
def test_every_reader_of_coco_files_refuses_a_key_that_stands_twice(tmp_path, kind):
    path, folder = tmp_path / "coco.json", tmp_path / "photos"
    write_images(folder)
    path.write_text(TWICE[kind])
    for name, read in readers(path, folder).items():
        with pytest.raises(UsageError) as error:
            read()
        assert str(error.value).startswith(f"{path}: "), name
        assert "stands twice" in str(error.value), name
        assert "keep one" in str(error.value), name


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32-le"])
def test_coco_files_in_other_encodings_are_read(tmp_path, encoding):
    path, folder = tmp_path / "coco.json", tmp_path / "photos"
    write_images(folder)
    path.write_text(COCO, encoding="utf-8")
    expected = load(path, folder)
    path.write_bytes(COCO.encode(encoding))
    assert load(path, folder) == expected
    assert CocoText(path).count == len(coco_content()["annotations"])


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999", "1" + "0" * 400])
@pytest.mark.parametrize("place", ["height", "id", "image_id", "category_id", "iscrowd", "x"])
def test_numbers_that_are_none_are_refused_where_they_are_used(tmp_path, number, place):
    path, folder = tmp_path / "coco.json", tmp_path / "photos"
    write_images(folder)
    content = coco_content()
    if place == "x":
        content["annotations"][0]["segmentation"] = [["@", 1, 5, 1, 5, 5]]
    else:
        holder = content["images" if place in ("height", "id") else "annotations"][0]
        holder[place] = "@"
    path.write_text(json.dumps(content).replace('"@"', number))
    with pytest.raises(UsageError, match=r"coco\.json: "):
        load(path, folder)


def test_a_number_that_is_none_in_an_entry_that_is_not_read_does_no_harm(tmp_path):
    path, folder = tmp_path / "coco.json", tmp_path / "photos"
    write_images(folder)
    path.write_text(COCO.replace('"iscrowd": 0', '"iscrowd": 0, "score": NaN', 1))
    assert load(path, folder).instances


def test_a_manifest_with_a_key_twice_is_damaged(tmp_path):
    folder = tmp_path / "refine" / "0123456789abcdef"
    write_manifest(folder, Manifest("refine", folder.name, {}, {}, counts={"images": 3}))
    path = folder / "manifest.json"
    value = json.loads(path.read_text())
    del value["sha256"]  # as earlier versions wrote it, so that no digest tells
    path.write_text(json.dumps(value))
    assert read_manifest(folder).counts == {"images": 3}
    twice = json.dumps(value).replace('"images": 3', '"images": 9, "images": 3')
    path.write_text(twice)
    with pytest.raises(ArtifactError, match="damaged"):
        read_manifest(folder)
