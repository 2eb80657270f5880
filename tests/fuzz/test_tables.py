"""Tables with other values or other bytes are read rightly or refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pycocotools import mask as mask_api

from s4m_pipeline.artifacts.table_definitions import TABLES
from s4m_pipeline.artifacts.tables import read_rows, read_table, table_rows, write_table
from s4m_pipeline.data.image_set import Category
from s4m_pipeline.labels.scored_predictions import prediction_scores
from s4m_pipeline.review.refine_figures import read_figures
from s4m_pipeline.stages.calibration.choice import read_measurements
from s4m_pipeline.training_data.label_cache import LabelCache, open_labels
from s4m_pipeline.training_data.refined_labels import label_batches, set_aside
from s4m_pipeline.training_data.structure_store import StructureStore
from tests.artifacts.test_table_checks import CATEGORIES, refined, structure
from tests.fuzz.answers import answer, feed, fuzzed, tally
from tests.fuzz.inputs import damaged_bytes

CLASSES = [Category(3, "disc"), Category(1, "box")]
OTHER = {
    "stage": "refine",
    "error": "a.jpg: not a readable image",
    "attempts": 1,
    "policy": "box",
    "iou_before": 0.5,
    "iou_after": 0.75,
    "views_seen": 2,
}
"""Columns of the tables that hold no masks."""


def rows_of(table, image_id=1):
    row = structure(image_id) if table == "structure" else {**refined(image_id), **OTHER}
    return [{name: row[name] for name in TABLES[table].schema.names}]


def read_all(folder: Path, table: str) -> Any:
    """Read a table in every way: all see the same rows, and pycocotools can decode the masks."""
    rows = read_table(folder, table).to_pylist()
    ids = [row["image_id"] for row in rows]
    wanted = {1, 2, 3}
    found = read_rows(folder, table, sorted(wanted))
    assert [row["image_id"] for row in found] == [key for key in ids if key in wanted]
    assert [row["image_id"] for row in table_rows(folder, table, ["image_id"])] == ids
    for row in rows:
        if "mask_rle" in row and "height" in row:
            coded = {"size": [row["height"], row["width"]], "counts": row["mask_rle"]}
            assert mask_api.decode(coded).shape == (row["height"], row["width"])
            mask_api.toBbox(coded)
    READERS[table](folder, rows)
    return rows


def as_labels(folder, rows):
    list(label_batches(folder, CLASSES, 0.3))
    read_figures(folder, "refined")


def as_predictions(folder, rows):
    scores = prediction_scores(folder, 0.0, 0)[1]
    assert len(scores) <= len(rows)
    read_figures(folder, "predictions")


def as_targets(folder, rows):
    store = StructureStore(folder)
    for row in rows:
        assert store.read(row["image_id"]) is not None


def as_quarantine(folder, rows):
    assert set_aside(folder) == {row["image_id"] for row in rows}


READERS = {
    "predictions": as_predictions,
    "refined": as_labels,
    "segmented": lambda folder, rows: None,
    "structure": as_targets,
    "quarantine": as_quarantine,
    "calibration": lambda folder, rows: read_measurements(folder),
}
"""What reads each table, beside those that read any."""
KINDS = sorted(TABLES)


def test_every_table_has_a_reader_here():
    assert READERS.keys() == TABLES.keys()


def of_type(kind: pa.DataType) -> st.SearchStrategy[Any]:
    """Values that a column of a type can hold."""
    if pa.types.is_integer(kind):
        bits = kind.bit_width - 1
        return st.integers(-(2**bits), 2**bits - 1) | st.integers(-2, 12)
    if pa.types.is_floating(kind):
        return st.floats(width=32) | st.floats(0, 2, width=32)
    if pa.types.is_fixed_size_list(kind):
        return st.lists(of_type(kind.value_type), min_size=4, max_size=4)
    if pa.types.is_list(kind):
        return st.lists(st.none() | of_type(kind.value_type), max_size=6)
    return st.binary(max_size=12) if pa.types.is_binary(kind) else st.text(max_size=8)


classes = st.lists(
    st.fixed_dictionaries({"id": st.integers(0, 4), "name": st.sampled_from(["disc", "box", "é"])}),
    max_size=3,
)


@fuzzed
@given(st.sampled_from(KINDS), st.just(CATEGORIES) | classes, st.data())
def test_values_of_tables(folder, kind, categories, data):
    row = rows_of(kind)[0]
    for field in data.draw(st.lists(st.sampled_from(list(TABLES[kind].schema)), max_size=3)):
        row[field.name] = data.draw(st.none() | of_type(field.type))
    artifact = folder / "work" / "values" / kind
    try:
        write_table(artifact / kind / "00000.parquet", kind, [row], categories)
    except (pa.ArrowException, UnicodeEncodeError, OverflowError):
        return  # no such table can be written
    tally.inputs += 1
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
    feed(artifact / kind / "00000.parquet", content)
    answer(lambda: read_all(artifact, kind))


@pytest.fixture(scope="module")
def labels(folder) -> tuple[Path, list[tuple[int, str]]]:
    """A refine artifact, and the labels in it."""
    artifact = folder / "cached"
    rows = [*rows_of("refined"), *rows_of("refined", image_id=2)]
    write_table(artifact / "refined" / "00000.parquet", "refined", rows, CATEGORIES)
    return artifact, shown(open_labels(artifact, CLASSES))


def shown(cache: LabelCache) -> list[Any]:
    places = range(len(cache))
    return [list(cache.images()), *(str(cache.read(place)) for place in places)]


@fuzzed
@given(st.data())
def test_caches_of_labels(folder, labels, data):
    """One that is damaged is made anew, so the labels are always the artifact's."""
    artifact, right = labels
    path = folder / "labels.arrow"
    path.unlink(missing_ok=True)
    assert shown(open_labels(artifact, CLASSES, path=path)) == right
    feed(path, data.draw(damaged_bytes(path.read_bytes())))
    assert shown(answer(lambda: open_labels(artifact, CLASSES, path=path))) == right
