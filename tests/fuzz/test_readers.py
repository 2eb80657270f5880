"""Each reader of users' text files answers any input with a good value or an error of ours."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pycocotools import mask as mask_api

from s4m_pipeline.config import RunConfig
from s4m_pipeline.config_file import load_config
from s4m_pipeline.data.check.check import check_coco
from s4m_pipeline.data.clean.clean import clean
from s4m_pipeline.data.formats import coco
from s4m_pipeline.data.split.lists import match_list, read_list
from tests.fuzz.answers import answer, feed, fuzzed
from tests.fuzz.inputs import changed_json, damaged_bytes, values
from tests.small_sets import coco_content, write_images

RUN = """
work_dir: work
seed: 3
data:
  labelled: &set {images: photos/train, annotations: labelled.json}
  unlabelled: {images: photos/more}
  validation: {<<: *set, annotations: valid.json}
segmenter: {name: demo, image_size: 64}
teacher: {model: mask2former_demo, iterations: 90_000, learning_rate: 1e-4}
refine: {policy: box+points, fuse_policies: [box], fuse_prompt_weights: [1, 2.5], gate: drop}
student: {paste: off, ignore_score: null, ema: 0.9}
"""
MAPPING = yaml.safe_load(RUN)
SETTINGS = [
    "seed",
    "work_dir",
    "device",
    "data.labelled.images",
    "teacher.iterations",
    "teacher.model",
    "student.ignore_score",
    "refine.fuse_policies",
    "refine.max_area_ratio",
    "segmenter.checkpoint",
]


@fuzzed
@given(
    st.one_of(
        damaged_bytes(RUN.encode()),
        changed_json(MAPPING).map(lambda v: yaml.safe_dump(v).encode("utf-8", "surrogatepass")),
        st.text().map(lambda text: text.encode("utf-8", "surrogatepass")),
        st.binary(),
    ),
    st.lists(
        st.builds(
            "{}={}".format,
            st.sampled_from(SETTINGS) | st.text(max_size=6),
            st.text(max_size=12) | values.map(repr),
        ),
        max_size=2,
    ),
)
def test_run_files(folder, data, overrides):
    path = folder / "run.yaml"
    feed(path, data)
    config = answer(lambda: load_config(path, overrides))
    if config is not None:
        assert config.work_dir.is_absolute()
        assert 0 <= config.seed < 2**32
        again = json.dumps(config.model_dump(mode="json"), allow_nan=False)
        assert RunConfig.model_validate(json.loads(again)) == config


def json_bytes(value: Any) -> bytes:
    return json.dumps(value).encode()


GOOD_COCO = coco_content()
coco_files = st.one_of(
    changed_json(GOOD_COCO).map(json_bytes),
    changed_json(GOOD_COCO).map(json_bytes),
    damaged_bytes(json_bytes(GOOD_COCO)),
    values.map(json_bytes),
)


@pytest.fixture(scope="module")
def photos(folder) -> Path:
    write_images(folder / "photos")
    return folder / "photos"


@fuzzed
@given(coco_files)
def test_coco_files(folder, photos, data):
    path = folder / "coco.json"
    feed(path, data)
    images = answer(lambda: coco.load(path, photos))
    if images is None:
        return
    sizes = {record.id: (record.height, record.width) for record in images.images}
    known = {category.id for category in images.categories}
    for image_id, instances in images.instances.items():
        for one in instances:
            coded = {"size": list(sizes[image_id]), "counts": one.rle}
            assert one.category_id in known
            assert one.area == int(mask_api.area(coded)) > 0
            assert tuple(mask_api.toBbox(coded)) == one.bbox
            assert 0 < one.area <= sizes[image_id][0] * sizes[image_id][1]


@fuzzed
@given(coco_files)
def test_checks_of_coco_files(folder, photos, data):
    path = folder / "checked.json"
    feed(path, data)
    for fault in answer(lambda: check_coco(path, photos)) or []:
        assert fault.count > 0
        fault.text.encode("utf-8")


@fuzzed
@given(coco_files)
def test_cleaning_of_coco_files(folder, photos, data):
    """What is written can be loaded, or nothing is written."""
    path, out = folder / "dirty.json", folder / "cleaned.json"
    feed(path, data)
    out.unlink(missing_ok=True)
    done = answer(lambda: clean(path, photos, out))
    assert out.exists() == (done is not None)
    if done is not None:
        assert coco.load(out, photos).instances


LIST = (
    "\ufeff# ours\r\npicture 0.png\nfolder/picture 1\n ./#1.jpg\n20\n"
    "bremen_000041_000019_gtFine_instanceIds.png\n"
)


@fuzzed
@given(
    st.one_of(
        damaged_bytes(LIST.encode()),
        st.binary(),
        st.text().map(lambda t: t.encode("utf-8", "replace")),
    ),
    st.sampled_from(["list.txt", "list.json"]),
)
def test_split_lists(folder, data, name):
    path = folder / name
    feed(path, data)
    names = answer(lambda: read_list(path))
    if names is not None:
        assert all(names)
        chosen = answer(lambda: match_list(names, GOOD_COCO["images"], path)) or set()
        assert chosen <= {image["id"] for image in GOOD_COCO["images"]}
