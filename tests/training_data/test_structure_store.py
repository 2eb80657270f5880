"""Structural targets read one by one, against the rows that were written."""

from __future__ import annotations

import os
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from s4m_pipeline.artifacts.tables import read_table, write_table
from s4m_pipeline.errors import ArtifactError
from s4m_pipeline.training_data import structure_store
from s4m_pipeline.training_data.structure_store import StructureStore

IDS = [[7, 3, 900_000_000_000], [], [5, 1, 4, 12, 11], [2]]
"""The images of each file."""


def row_of(image_id: int) -> dict[str, Any]:
    random = np.random.default_rng(image_id)
    points, grid = 3, 4
    return {
        "image_id": image_id,
        "file_name": f"{image_id}.jpg",
        "height": 30 + image_id % 7,
        "width": 50,
        "grid": grid,
        "points": random.random(2 * points).astype(np.float32),
        "similarity": random.integers(0, 256, points * grid**2, dtype=np.uint8).tobytes(),
        "scale": random.random(points).astype(np.float32),
        "offset": random.random(points).astype(np.float32),
    }


@pytest.fixture(params=["single", "grouped", "no statistics"])
def folder(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """A table as the package writes it, and as others may: in groups, without statistics."""
    for number, ids in enumerate(IDS):
        path = tmp_path / "structure" / f"{number:05d}.parquet"
        write_table(path, "structure", map(row_of, ids), [{"id": 1, "name": "a"}])
        if request.param != "single":
            size = 2 if request.param == "grouped" else 1
            told = request.param == "grouped"
            pq.write_table(pq.read_table(path), path, row_group_size=size, write_statistics=told)
    return tmp_path


def assert_is(row: Any, image_id: int) -> None:
    expected = row_of(image_id)
    assert row is not None
    assert (row.height, row.width) == (expected["height"], expected["width"])
    assert row.similarity.tobytes() == expected["similarity"]
    assert row.similarity.shape == (3, 4, 4)
    assert np.array_equal(row.points.ravel(), expected["points"])
    assert np.array_equal(row.scale, expected["scale"])
    assert np.array_equal(row.offset, expected["offset"])


def test_each_image_has_the_row_that_was_written(folder: Path) -> None:
    store = StructureStore(folder)
    ids = read_table(folder, "structure", ["image_id"])["image_id"].to_pylist()
    assert sorted(ids) == sorted(image_id for part in IDS for image_id in part)
    assert len(store) == len(ids)
    for image_id in [*ids, *ids[::-1]]:
        assert image_id in store
        assert_is(store.read(image_id), image_id)
    for missing in (0, 6, 13, 10**12, -1):
        assert missing not in store
        assert store.read(missing) is None


def test_only_a_few_files_stay_open(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    alive: weakref.WeakSet[Any] = weakref.WeakSet()

    class Noted(pq.ParquetFile):  # type: ignore[misc]
        def __init__(self, *args: Any, **more: Any) -> None:
            super().__init__(*args, **more)
            alive.add(self)

    monkeypatch.setattr(pq, "ParquetFile", Noted)
    monkeypatch.setattr(structure_store, "OPEN_FILES", 2)
    store = StructureStore(folder)
    assert not alive, "none is kept from making the index"
    for image_id in (7, 5, 2, 3, 1, 2, 7):
        assert_is(store.read(image_id), image_id)
        assert len(alive) <= 2
    assert len(alive) == 2


def test_a_forked_process_opens_files_of_its_own(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = StructureStore(folder)
    store.read(7)
    before = store._open[0]
    monkeypatch.setattr(os, "getpid", lambda: -1)
    assert_is(store.read(7), 7)
    assert store._open[0] is not before


def test_a_damaged_file_is_named(folder: Path) -> None:
    path = folder / "structure" / "00002.parquet"
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(ArtifactError, match=r"00002\.parquet"):
        StructureStore(folder)
    with pytest.raises(ArtifactError, match="no structural targets"):
        StructureStore(folder / "structure")


def test_a_table_without_rows_has_no_image(tmp_path: Path) -> None:
    write_table(tmp_path / "structure" / "00000.parquet", "structure", [], [])
    store = StructureStore(tmp_path)
    assert len(store) == 0
    assert 0 not in store
