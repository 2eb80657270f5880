"""What a Parquet file says of itself (statistics, counts) hides no row and ends no process."""

from __future__ import annotations

import struct
from dataclasses import replace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from s4m_pipeline.artifacts import table_definitions
from s4m_pipeline.artifacts.table_file import read_some
from s4m_pipeline.artifacts.tables import read_rows, read_table, table_rows, write_table
from s4m_pipeline.errors import ArtifactError
from s4m_pipeline.training_data.structure_store import StructureStore
from tests.artifacts.test_table_checks import CATEGORIES, rows_of

IDS = [0x0102030401, 0x0102030402, 0x0102030403, 0x0102030404]


@pytest.fixture
def table_of(tmp_path, monkeypatch):
    def write(table):
        small = replace(table_definitions.TABLES[table], row_group=1)
        monkeypatch.setitem(table_definitions.TABLES, table, small)
        path = tmp_path / table / "00000.parquet"
        rows = [row for image_id in IDS for row in rows_of(table, image_id=image_id)]
        write_table(path, table, rows, CATEGORIES)
        return path

    return write


def footer_start(content):
    return len(content) - 8 - int.from_bytes(content[-8:-4], "little")


def anew(path, content):
    """Put other bytes into a file of another name in the file system, as nothing maps it then."""
    path.unlink()
    path.write_bytes(content)


@pytest.mark.parametrize("table", ["structure", "predictions"])
def test_statistics_that_lie_hide_no_row(table_of, table):
    path = table_of(table)
    content = path.read_bytes()
    start, wanted = footer_start(content), (IDS[1]).to_bytes(8, "little")
    assert content.count(wanted, start) >= 2  # the group's least and greatest
    footer = content[start:].replace(wanted, (7).to_bytes(8, "little"))
    anew(path, content[:start] + footer)
    assert pq.ParquetFile(path).metadata.row_group(1).column(0).statistics.min == 7

    folder = path.parent.parent
    assert [row["image_id"] for row in read_rows(folder, table, IDS)] == IDS
    assert [row["image_id"] for row in read_rows(folder, table, [IDS[1]])] == [IDS[1]]
    some = read_some(path, table, ["image_id"], [("image_id", "in", [IDS[1], 7])])
    assert some["image_id"].to_pylist() == [IDS[1]]
    if table == "structure":
        store = StructureStore(folder)
        assert len(store) == 4
        assert all(store.read(image_id) is not None for image_id in IDS)
        assert store.read(7) is None


def test_scores_that_statistics_deny_are_read(table_of):
    path = table_of("predictions")
    score = read_table(path.parent.parent, "predictions")["score"][0].as_py()
    content, told = path.read_bytes(), struct.pack("<f", score)
    start = footer_start(content)
    assert content.count(told, start) >= 8
    anew(path, content[:start] + content[start:].replace(told, bytes(4)))
    assert read_some(path, "predictions", ["image_id"], [("score", ">", 0.1)]).num_rows == 4


@pytest.mark.parametrize("table", ["structure", "segmented"])
def test_every_reader_of_a_damaged_footer_reads_the_same_or_refuses(table_of, table):
    """Among the bits are those of counts of rows, and of what makes Arrow end the process."""
    path = table_of(table)
    folder, content = path.parent.parent, path.read_bytes()
    first, refused = footer_start(content) * 8, 0
    for number in range(first, len(content) * 8, 211):
        at, bit = divmod(number, 8)
        damaged = bytearray(content)
        damaged[at] ^= 1 << bit
        anew(path, bytes(damaged))
        try:
            whole = read_table(folder, table).to_pylist()
        except ArtifactError:
            refused += 1
            continue
        assert len(whole) == len(IDS), number
        ids = [row["image_id"] for row in whole]
        try:
            assert read_rows(folder, table, ids) == whole, number
            assert [r["image_id"] for r in table_rows(folder, table, ["image_id"])] == ids, number
            if table == "structure":
                store = StructureStore(folder)
                assert all(store.read(image_id) is not None for image_id in ids), number
        except ArtifactError:
            refused += 1
    assert refused > 5


@pytest.mark.parametrize("rows", [0, 3])
def test_counts_of_rows_that_lie_are_refused(table_of, rows):
    """A group that says it has no row is read as one without rows."""
    path = table_of("structure")
    content = path.read_bytes()
    start, lies = footer_start(content), 0
    for at in range(start, len(content) - 8):  # each byte that may be the count, 1 as a varint: 2
        if content[at] != 2:
            continue
        anew(path, content[:at] + bytes([2 * rows]) + content[at + 1 :])
        try:
            said = pq.ParquetFile(path).metadata
            groups = [said.row_group(group).num_rows for group in range(said.num_row_groups)]
        except (OSError, pa.ArrowException):
            continue
        if sum(groups) == said.num_rows:
            continue
        lies += 1
        with pytest.raises(ArtifactError, match="damaged"):
            read_table(path.parent.parent, "structure")
        with pytest.raises(ArtifactError, match="damaged"):
            list(table_rows(path.parent.parent, "structure", ["image_id"]))
        with pytest.raises(ArtifactError, match="damaged"):
            StructureStore(path.parent.parent)
    assert lies >= 4
