"""Tables that no stage writes end in an error of ours before a reader meets them."""

from __future__ import annotations

import json
import math
import time

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from s4m_pipeline.artifacts.rle_checks import not_masks
from s4m_pipeline.artifacts.table_definitions import TABLES
from s4m_pipeline.artifacts.table_file import read_file, read_some
from s4m_pipeline.artifacts.tables import read_rows, read_table, table_rows, write_table
from s4m_pipeline.data.image_set import Category
from s4m_pipeline.errors import ArtifactError
from s4m_pipeline.labels.scored_predictions import prediction_scores
from s4m_pipeline.training_data.refined_labels import label_batches
from s4m_pipeline.training_data.structure_store import StructureStore
from tests.small_sets import encode, rectangle, refined_row

CATEGORIES = [{"id": 3, "name": "disc"}, {"id": 1, "name": "box"}]


def refined(image_id=1, **other):
    mask = rectangle(8, 10, 2, 1, 4, 5)
    soft = {"soft_mask": bytes(range(200, 206)), "soft_mask_box": [1, 0, 3, 2]}
    row = refined_row(image_id, f"{image_id}.jpg", (8, 10), 3, [0.75, 0.25], (mask, mask), **soft)
    return {**row, "prompt_points": [1.0, 2.0, 3.0, 4.0], "candidate_ious": [0.5], **other}


def structure(image_id=1, **other):
    row = {
        "image_id": image_id,
        "file_name": f"{image_id}.jpg",
        "height": 8,
        "width": 10,
        "grid": 2,
        "points": [1.0, 2.0, 3.0, 4.0],
        "similarity": bytes(8),
        "scale": [1.0, 1.0],
        "offset": [0.0, 0.0],
    }
    return {**row, **other}


def rows_of(table, **other):
    make = structure if table == "structure" else refined
    names = TABLES[table].schema.names
    return [{key: value for key, value in make(**other).items() if key in names}]


def written(folder, table, **other):
    path = folder / "work" / "stage" / "0123456789abcdef" / table / "00000.parquet"
    write_table(path, table, rows_of(table, **other), CATEGORIES)
    return path


@pytest.mark.parametrize("table", ["predictions", "refined", "segmented", "structure"])
def test_what_a_stage_writes_passes(tmp_path, table):
    assert read_file(written(tmp_path, table), table).num_rows == 1


BAD = {
    "a height of 0": dict(height=0),
    "a negative width": dict(width=-3),
    "no height": dict(height=None),
    "no image": dict(image_id=None),
    "no mask": dict(mask_rle=None),
    "a class that is not there": dict(category_id=7),
    "no class": dict(category_id=None),
    "no score": dict(score=None),
    "NaN for a score": dict(score=math.nan),
    "an endless score": dict(score=math.inf),
    "a score above 1": dict(score=2.0),
    "another number of classes": dict(class_probs=[0.5]),
    "NaN for a class": dict(class_probs=[math.nan, 0.5]),
    "a hole in the classes": dict(class_probs=[None, 0.5]),
    "a box of negative sides": dict(bbox=[0, 0, -1, 4]),
    "a box of NaN": dict(bbox=[math.nan, 0, 1, 4]),
    "no box": dict(bbox=None),
    "half a point": dict(prompt_points=[1.0, 2.0, 3.0]),
    "a point of NaN": dict(prompt_points=[1.0, math.nan]),
    "a shorter soft mask": dict(soft_mask=b"12345"),
    "a soft mask of negative sides": dict(soft_mask_box=[0, 0, -3, -2]),
    "a stride of 0": dict(soft_mask_stride=0.0),
    "seen in no view": dict(views_seen=0),
    "a mask of other letters": dict(mask_rle=b"\x01\x02"),
    "a mask that is cut off": dict(mask_rle=encode(rectangle(80, 100, 2, 1, 4, 5))[:-3] + b"P"),
    "a mask of another size": dict(mask_rle=encode(rectangle(8, 11, 2, 1, 4, 5))),
    "another decision": dict(decision="perhaps"),
    "NaN for agreement": dict(agreement=math.nan),
    "a negative area": dict(area=-1),
    "a teacher's mask of another size": dict(teacher_mask_rle=encode(rectangle(4, 4, 1, 1, 2, 2))),
}


@pytest.mark.parametrize("name", BAD)
def test_rows_that_no_stage_writes_are_refused_by_every_reader(tmp_path, name):
    path = written(tmp_path, "refined", **BAD[name])
    folder = path.parent.parent
    readers = (
        lambda: read_table(folder, "refined"),
        lambda: read_rows(folder, "refined", [1]),
        lambda: list(table_rows(folder, "refined", TABLES["refined"].schema.names)),
        lambda: read_some(path, "refined", None, [("score", ">", 0.0), ("image_id", ">=", 0)]),
    )
    for read in readers:
        with pytest.raises(ArtifactError, match=r"refined.00000\.parquet: damaged") as caught:
            read()
        assert caught.value.exit_code == 3
        assert len(str(caught.value).splitlines()) <= 3


@pytest.mark.parametrize(
    "change",
    [
        dict(height=0),
        dict(width=0, height=0),
        dict(mask_rle=b""),
        dict(mask_rle=encode(rectangle(8, 11, 2, 1, 4, 5))),
        dict(teacher_mask_rle=b"0", decision="dropped", reason_code="agreement"),
    ],
)
def test_a_students_labels_never_end_the_process(tmp_path, change):
    """pycocotools divides by the height."""
    path = written(tmp_path, "refined", **change)
    categories = [Category(3, "disc"), Category(1, "box")]
    with pytest.raises(ArtifactError, match="damaged"):
        list(label_batches(path.parent.parent, categories, ignore_score=0.3))


@pytest.mark.parametrize(
    "change",
    [
        dict(grid=0),
        dict(grid=3),
        dict(points=[1.0, 2.0, 3.0]),
        dict(points=[math.nan] * 4),
        dict(scale=[1.0]),
        dict(scale=[1.0, math.nan]),
        dict(offset=[]),
        dict(similarity=bytes(7)),
        dict(height=0),
        dict(image_id=None),
    ],
)
def test_structural_targets_are_checked_as_they_are_read(tmp_path, change):
    path = written(tmp_path, "structure", **change)
    with pytest.raises(ArtifactError, match="damaged"):
        StructureStore(path.parent.parent).read(1)


def test_scores_that_are_no_numbers_do_not_slip_through_a_filter(tmp_path):
    path = written(tmp_path, "predictions", score=math.nan)
    with pytest.raises(ArtifactError, match="score is out of its range"):
        prediction_scores(path.parent.parent, 0.3, 1.0)


def replaced(path, **metadata):
    table = pq.read_table(path)
    kept = {key.decode(): value for key, value in table.schema.metadata.items()}
    pq.write_table(table.replace_schema_metadata({**kept, **metadata}), path)


@pytest.mark.parametrize(
    "categories",
    [
        "",
        "{",
        "[1]",
        '{"id": 1}',
        '[{"id": "1", "name": "a"}]',
        "[" * 5000,
        '[{"id": 1}]',
        json.dumps([{"id": 1, "name": "a"}] * 2),
    ],
)
def test_classes_that_cannot_be_read_are_refused(tmp_path, categories):
    path = written(tmp_path, "predictions")
    replaced(path, categories=categories)
    with pytest.raises(ArtifactError, match="classes"):
        read_file(path, "predictions")


@pytest.mark.parametrize("table", ["predictions", "refined", "calibration"])
@pytest.mark.parametrize("categories", [b"[]", None])
def test_rows_of_classes_in_a_table_that_lists_none_are_refused(tmp_path, table, categories):
    """Their classes could be any, so the check of each was left out."""
    path = tmp_path / "work" / "stage" / "0123456789abcdef" / table / "00000.parquet"
    others = {"policy": "box", "iou_before": 0.5, "iou_after": 0.75, "views_seen": 1}
    row = {**refined(), **others}
    rows = [{name: row[name] for name in TABLES[table].schema.names}]
    write_table(path, table, rows, CATEGORIES)
    assert read_file(path, table).num_rows == 1
    stored = pq.read_table(path)
    metadata = {**stored.schema.metadata, b"categories": categories}
    metadata = {key: value for key, value in metadata.items() if value is not None}
    pq.write_table(stored.replace_schema_metadata(metadata), path)
    with pytest.raises(ArtifactError, match="category_id is there, but no list of classes"):
        read_file(path, table)
    pq.write_table(stored.slice(0, 0).replace_schema_metadata(metadata), path)
    assert read_file(path, table).num_rows == 0


def test_a_version_that_is_no_text_is_another_version(tmp_path):
    path = written(tmp_path, "predictions")
    replaced(path, format_version=b"\xff\xfe")
    with pytest.raises(ArtifactError, match="format version"):
        read_file(path, "predictions")


def test_a_column_of_another_type_is_refused(tmp_path):
    path = written(tmp_path, "predictions")
    table = pq.read_table(path)
    place = table.schema.names.index("height")
    column = table["height"].cast(pa.string())
    pq.write_table(table.set_column(place, "height", column), path)
    with pytest.raises(ArtifactError, match="height is string, not int32"):
        read_file(path, "predictions")


def binary(*texts):
    return pa.array(texts, pa.binary())


def test_masks_of_pycocotools_are_of_their_images_pixels():
    generator = np.random.default_rng(4)
    masks, pixels = [], []
    for _ in range(300):
        height, width = generator.integers(1, 90, 2)
        kind = generator.integers(3)
        masks.append(encode(generator.random((height, width)) < (0, 0.5, 0.02)[kind]))
        pixels.append(int(height) * int(width))
    masks.append(encode(np.ones((3000, 4000), bool)))
    pixels.append(12_000_000)
    column = binary(*masks)
    assert not not_masks(column, pixels).any()
    assert not not_masks(column).any()
    assert not not_masks(column[7:19], pixels[7:19]).any()
    assert not_masks(column, [count + 1 for count in pixels]).all()
    assert not_masks(binary(), []).tolist() == []
    assert not_masks(binary(b"", masks[0], b""), [0, pixels[0], 5]).tolist() == [False, False, True]


@pytest.mark.parametrize("text", [b"\xff", b"0P", b"oooooooo0", b"P", b"5P", b"/1"])
def test_what_is_no_encoding_is_found_without_a_size(text):
    whole = encode(np.ones((3, 3), bool))
    assert whole == b"09"
    assert not_masks(binary(whole, text, whole)).tolist() == [False, True, False]


def test_runs_below_zero_do_not_make_up_for_others():
    """O is -1: 0, 10 and -1 are nine pixels together."""
    assert not_masks(binary(b"0:O"), [9]).tolist() == [True]


def test_a_mask_of_thousands_of_runs_is_looked_at_in_microseconds():
    ring = encode(np.hypot(*np.mgrid[-240:240, -320:320]) % 40 < 20)
    column = binary(*[ring] * 200)
    start = time.perf_counter()
    assert not not_masks(column, [480 * 640] * 200).any()
    seconds = time.perf_counter() - start
    assert seconds < 2e-7 * 200 * len(ring), f"{seconds:.2f} s for {200 * len(ring)} characters"
