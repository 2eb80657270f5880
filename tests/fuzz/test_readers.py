"""Each reader answers any input with a good value or an error of the project's own.

``make test`` tries a thousand inputs, always the same ones. ``make fuzz`` sets ``S4M_FUZZ`` and
tries a hundred thousand new ones. An input may take five seconds and two gigabytes.
"""

from __future__ import annotations

import io
import json
import os
import pickle
import resource
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
import yaml
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from PIL import Image
from pycocotools import mask as mask_api

from s4m_pipeline.artifacts.fingerprint import FORMAT_VERSION
from s4m_pipeline.artifacts.manifest import read_manifest
from s4m_pipeline.artifacts.table_definitions import TABLES
from s4m_pipeline.artifacts.tables import read_rows, read_table, write_table
from s4m_pipeline.config import RunConfig
from s4m_pipeline.config_file import load_config
from s4m_pipeline.data.check.check import check_coco
from s4m_pipeline.data.formats import coco
from s4m_pipeline.data.image_set import Category
from s4m_pipeline.data.images import image_size, read_image
from s4m_pipeline.data.split.lists import match_list, read_list
from s4m_pipeline.errors import BAD_ARTIFACT, WRONG_USE, S4MError
from s4m_pipeline.models.conversion.pickled_arrays import read_pickled_arrays
from s4m_pipeline.models.safe_load import load_checkpoint_file
from s4m_pipeline.training_data.refined_labels import label_batches
from s4m_pipeline.training_data.structure_store import StructureStore
from tests.artifacts.test_table_checks import CATEGORIES, rows_of
from tests.fuzz.inputs import changed_json, damaged_bytes, values
from tests.small_sets import coco_content, write_images

READERS = 10
INPUTS = int(os.environ.get("S4M_FUZZ", "1000"))
"""Inputs of all readers together."""
SECONDS = 5
MEMORY = 2 << 30
MIB = 1 << 20

fuzzed = settings(
    max_examples=INPUTS // READERS,
    deadline=None,  # `answer` counts the seconds that the process works, whatever else runs
    derandomize="S4M_FUZZ" not in os.environ,
    database=None,
    print_blob=True,
    phases=[Phase.explicit, Phase.generate, Phase.shrink],
    suppress_health_check=list(HealthCheck),
)


@pytest.fixture(autouse=True)
def _bounded_memory():
    """No reader takes more than two gigabytes beyond what the process had."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    yield
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    assert grown < MEMORY, f"{grown / MIB:.0f} MiB more"


def answer(read: Callable[[], Any]) -> Any:
    """What a reader gives; None for an error of ours, whose message is fit to be read."""
    start, value, refusal = time.process_time(), None, None
    try:
        value = read()
    except S4MError as error:
        refusal = error
    assert time.process_time() - start < SECONDS
    if refusal is None:
        return value
    assert 1 <= len(str(refusal).splitlines()) <= 3, str(refusal)
    assert refusal.exit_code in (WRONG_USE, BAD_ARTIFACT)
    return None


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("fuzz")


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
    path.write_bytes(data)
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
    path.write_bytes(data)
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
    path.write_bytes(data)
    for fault in answer(lambda: check_coco(path, photos)) or []:
        assert fault.count > 0
        fault.text.encode("utf-8")


MANIFEST = {
    "stage": "refine",
    "fingerprint": "0123456789abcdef",
    "config": {"score": 0.7},
    "inputs": {"predictions": "fedcba9876543210"},
    "input_contents": {},
    "files": [{"path": "refined/00000.parquet", "bytes": 7, "sha256": "00" * 32, "rows": 3}],
    "counts": {"images": 3, "instances": 9},
    "metrics": {"seconds": {"refine": 0.5}},
    "environment": {"python": "3.11"},
    "created": "2026-01-01T00:00:00+00:00",
    "format_version": FORMAT_VERSION,
}


@fuzzed
@given(
    st.one_of(
        changed_json(MANIFEST).map(json_bytes), damaged_bytes(json_bytes(MANIFEST)), st.binary()
    )
)
def test_manifests(folder, data):
    artifact = folder / "work" / "refine" / "0123456789abcdef"
    artifact.mkdir(parents=True, exist_ok=True)
    (artifact / "manifest.json").write_bytes(data)
    manifest = answer(lambda: read_manifest(artifact))
    if manifest is not None:
        assert isinstance(manifest.stage, str)
        assert isinstance(manifest.counts, dict)
        assert all(isinstance(entry.path, str) and entry.bytes >= 0 for entry in manifest.files)
        assert len(manifest.content) == 64


def read_all(folder: Path, table: str) -> Any:
    """Read a table in every way; what is read, pycocotools can decode."""
    rows = read_table(folder, table).to_pylist()
    read_rows(folder, table, [1, 2, 3])
    for row in rows:
        if "mask_rle" in row and "height" in row:
            coded = {"size": [row["height"], row["width"]], "counts": row["mask_rle"]}
            assert mask_api.decode(coded).shape == (row["height"], row["width"])
            mask_api.toBbox(coded)
    if table == "refined":
        list(label_batches(folder, [Category(3, "disc"), Category(1, "box")], 0.3))
    if table == "structure":
        store = StructureStore(folder)
        for row in rows:
            assert store.read(row["image_id"]) is not None
    return rows


KINDS = ["predictions", "refined", "segmented", "structure"]


@fuzzed
@given(st.sampled_from(KINDS), st.data())
def test_values_of_tables(folder, kind, data):
    name = data.draw(st.sampled_from(TABLES[kind].schema.names))
    row = rows_of(kind)[0]
    row[name] = data.draw(values | st.binary(max_size=12) | st.lists(st.floats(), max_size=6))
    artifact = folder / "work" / "values" / kind
    try:
        write_table(artifact / kind / "00000.parquet", kind, [row], CATEGORIES)
    except (pa.ArrowException, TypeError, ValueError, OverflowError):
        return  # no such table can be written
    answer(lambda: read_all(artifact, kind))


@pytest.fixture(scope="module")
def good_tables(folder) -> dict[str, bytes]:
    for kind in KINDS:
        rows = [*rows_of(kind), *rows_of(kind, image_id=2)]
        write_table(folder / "good" / kind / "00000.parquet", kind, rows, CATEGORIES)
    return {kind: (folder / "good" / kind / "00000.parquet").read_bytes() for kind in KINDS}


@fuzzed
@given(st.sampled_from(KINDS), st.data())
def test_bytes_of_tables(folder, good_tables, kind, data):
    artifact = folder / "work" / "bytes" / kind
    (artifact / kind).mkdir(parents=True, exist_ok=True)
    content = data.draw(damaged_bytes(good_tables[kind]))
    (artifact / kind / "00000.parquet").write_bytes(content)
    answer(lambda: read_all(artifact, kind))


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
    path.write_bytes(data)
    names = answer(lambda: read_list(path))
    if names is not None:
        assert all(names)
        chosen = answer(lambda: match_list(names, GOOD_COCO["images"], path)) or set()
        assert chosen <= {image["id"] for image in GOOD_COCO["images"]}


def picture(kind: str) -> bytes:
    pixels = np.random.default_rng(3).integers(0, 255, (24, 20, 3), dtype=np.uint8)
    out = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6
    image = Image.fromarray(pixels)
    image = image.convert("P") if kind == "GIF" else image
    image.save(out, kind, **({"exif": exif} if kind in ("JPEG", "PNG", "WEBP") else {}))
    return out.getvalue()


PICTURES = {kind: picture(kind) for kind in ("PNG", "JPEG", "TIFF", "GIF", "BMP", "WEBP")}


@fuzzed
@given(st.sampled_from(sorted(PICTURES)).flatmap(lambda kind: damaged_bytes(PICTURES[kind])))
@pytest.mark.filterwarnings("ignore")
def test_images(folder, data):
    path = folder / "picture.png"
    path.write_bytes(data)
    size = answer(lambda: image_size(path))
    pixels = answer(lambda: read_image(path))
    if pixels is not None:
        assert pixels.dtype == np.uint8
        assert pixels.shape[2] == 3
        assert size is None or pixels.shape[:2] == size


ARRAYS = {"model": {"w": np.arange(6, dtype=np.float32).reshape(2, 3), "n": 3}, "author": "x"}
PICKLES = [pickle.dumps(ARRAYS, protocol) for protocol in (0, 2, 4, 5)]


@fuzzed
@given(st.sampled_from(PICKLES).flatmap(damaged_bytes) | st.binary(max_size=64))
def test_pickles(folder, data):
    path = folder / "model.pkl"
    path.write_bytes(data)
    content = answer(lambda: read_pickled_arrays(path))
    assert content is None or isinstance(content, dict)


def checkpoint() -> bytes:
    out = io.BytesIO()
    torch.save({"state_dict": {"w": torch.arange(6.0)}, "meta": {"classes": ["a"]}}, out)
    return out.getvalue()


CHECKPOINT = checkpoint()


@fuzzed
@given(
    damaged_bytes(CHECKPOINT) | st.binary(max_size=64),
    st.sampled_from(["model.pth", "model.safetensors"]),
)
@pytest.mark.filterwarnings("ignore")
def test_checkpoints(folder, data, name):
    path = folder / name
    path.write_bytes(data)
    content = answer(lambda: load_checkpoint_file(path))
    assert content is None or isinstance(content, dict)
