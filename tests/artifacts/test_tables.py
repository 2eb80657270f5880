import json
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from s4m_pipeline.artifacts.decision import Decision
from s4m_pipeline.artifacts.table_definitions import TABLES, Column, Table
from s4m_pipeline.artifacts.table_file import categories_of
from s4m_pipeline.artifacts.tables import read_rows, read_table, table_rows, write_table
from s4m_pipeline.errors import ArtifactError
from tests.small_sets import encode, rectangle

CATEGORIES = [{"id": 3, "name": "bear"}]
MASK = encode(rectangle(4, 6, 0, 1, 2, 3))


def prediction(image_id, instance_id=0):
    return {
        "image_id": image_id,
        "file_name": f"{image_id}.jpg",
        "height": 4,
        "width": 6,
        "instance_id": instance_id,
        "category_id": 3,
        "score": 0.5,
        "class_probs": [0.5],
        "bbox": (0.0, 1.0, 2.0, 3.0),
        "area": 6,
        "mask_rle": MASK,
        "prompt_points": np.array([1.0, 2.0], np.float32),
        "soft_mask": bytes([7, 8]),
        "soft_mask_box": (0, 0, 2, 1),
        "soft_mask_stride": 2.0,
        "views_seen": 1,
    }


def test_rows_come_back_as_they_were_written(tmp_path):
    rows = [prediction(1), prediction(2), prediction(2, 1)]
    assert write_table(tmp_path / "predictions/00000.parquet", "predictions", rows, CATEGORIES) == 3
    found = read_table(tmp_path, "predictions")
    assert found.schema.remove_metadata() == TABLES["predictions"].schema
    assert categories_of(found) == CATEGORIES
    assert found["mask_rle"].to_pylist() == [MASK] * 3
    assert found["bbox"].to_pylist()[0] == [0.0, 1.0, 2.0, 3.0]


def columns_of(path):
    """Metadata of a file's columns by name, of its first row group."""
    group = pq.read_metadata(path).row_group(0)
    columns = [group.column(i) for i in range(group.num_columns)]
    return {column.path_in_schema: column for column in columns}


def test_metadata_has_format_version_and_categories_and_masks_have_no_dictionary(tmp_path):
    path = tmp_path / "predictions/00000.parquet"
    write_table(path, "predictions", [prediction(1)], CATEGORIES)
    metadata = pq.read_schema(path).metadata
    assert metadata[b"format_version"] == b"2"
    assert json.loads(metadata[b"categories"]) == CATEGORIES
    masks = columns_of(path)["mask_rle"]
    assert "RLE_DICTIONARY" not in masks.encodings
    assert masks.compression == "ZSTD"


def test_dictionaries_are_of_recurring_values_and_statistics_of_all_but_masks(tmp_path):
    path = tmp_path / "predictions/00000.parquet"
    write_table(path, "predictions", [prediction(i) for i in (4, 7)], CATEGORIES)
    found = columns_of(path)
    coded = {name for name, column in found.items() if "RLE_DICTIONARY" in column.encodings}
    assert {"file_name", "category_id", "height"} <= coded
    assert not coded & {"image_id", "score", "area", "mask_rle", "soft_mask"}
    assert (found["image_id"].statistics.min, found["image_id"].statistics.max) == (4, 7)
    assert found["score"].statistics.max == 0.5
    assert found["mask_rle"].statistics is None


def test_columns_read_alone_are_those_of_the_whole_table_in_image_order(tmp_path):
    for shard, ids in enumerate(([1, 2], [3], [8, 9])):
        rows = [prediction(i) | {"score": i / 16} for i in ids]
        write_table(tmp_path / f"predictions/{shard:05d}.parquet", "predictions", rows, CATEGORIES)
    names = ["score", "image_id"]
    found = read_table(tmp_path, "predictions", names)
    assert found.equals(read_table(tmp_path, "predictions").select(names))
    assert found["score"].to_pylist() == [1 / 16, 2 / 16, 3 / 16, 8 / 16, 9 / 16]
    assert categories_of(found) == CATEGORIES


def test_read_rows_gives_the_asked_images_over_several_shards(tmp_path):
    for shard, ids in enumerate(([1, 2], [3, 4], [9])):
        rows = [prediction(i) for i in ids]
        write_table(tmp_path / f"predictions/{shard:05d}.parquet", "predictions", rows, CATEGORIES)
    assert [r["image_id"] for r in read_rows(tmp_path, "predictions", [2, 4])] == [2, 4]
    assert read_rows(tmp_path, "predictions", []) == []


def test_missing_table_reads_as_empty(tmp_path):
    assert read_table(tmp_path, "quarantine", ["image_id"]).num_rows == 0


def test_another_format_version_is_refused(tmp_path):
    path = tmp_path / "predictions/00000.parquet"
    path.parent.mkdir()
    schema = TABLES["predictions"].schema.with_metadata({"format_version": "99"})
    pq.write_table(schema.empty_table(), path)
    with pytest.raises(ArtifactError, match="format version 99"):
        read_table(tmp_path, "predictions")


def test_damaged_parquet_is_refused(tmp_path):
    path = tmp_path / "refined/00000.parquet"
    path.parent.mkdir()
    path.write_bytes(b"PAR1 no table")
    with pytest.raises(ArtifactError, match=r"00000\.parquet"):
        read_table(tmp_path, "refined")


def test_a_table_without_its_columns_is_refused(tmp_path):
    path = tmp_path / "refined/00000.parquet"
    path.parent.mkdir()
    table = pa.table({"image_id": [1]}).replace_schema_metadata({"format_version": "2"})
    pq.write_table(table, path)
    with pytest.raises(ArtifactError, match="columns missing"):
        read_table(tmp_path, "refined")


def test_a_failed_write_leaves_no_file(tmp_path):
    path = tmp_path / "predictions/00000.parquet"
    with pytest.raises((pa.ArrowException, TypeError, ValueError)):
        write_table(path, "predictions", [prediction(1) | {"area": "many"}], CATEGORIES)
    assert not path.exists()


@pytest.mark.parametrize("count", [0, 1, 5, 8])
def test_a_file_written_a_row_group_at_a_time_is_that_of_the_whole_table(
    tmp_path, monkeypatch, count
):
    definition = replace(TABLES["predictions"], row_group=4)
    monkeypatch.setitem(TABLES, "predictions", definition)
    rows = [prediction(number) for number in range(count)]
    path = tmp_path / "predictions/00000.parquet"
    assert write_table(path, "predictions", rows, CATEGORIES) == count
    schema = definition.schema_with(CATEGORIES)
    pq.write_table(
        pa.Table.from_pylist(rows, schema=schema),
        tmp_path / "whole.parquet",
        compression="zstd",
        compression_level=9,
        row_group_size=4,
        use_dictionary=definition.with_dictionary,
        write_statistics=definition.with_statistics,
    )
    assert path.read_bytes() == (tmp_path / "whole.parquet").read_bytes()


def test_rows_of_a_file_that_was_written_anew_are_found(tmp_path):
    path = tmp_path / "predictions/00000.parquet"
    write_table(path, "predictions", [prediction(1)], CATEGORIES)
    assert len(read_rows(tmp_path, "predictions", [1])) == 1
    write_table(path, "predictions", [prediction(number) for number in (5, 6)], CATEGORIES)
    assert [row["image_id"] for row in read_rows(tmp_path, "predictions", [5, 6])] == [5, 6]


def test_a_table_is_added_by_its_definition_alone(tmp_path, monkeypatch):
    columns = (
        Column("image_id", pa.int64()),
        Column("colour", pa.string(), dictionary=True),
        Column("code", pa.binary(), statistics=False),
    )
    monkeypatch.setitem(TABLES, "colours", Table("colours", columns, row_group=2))
    rows = [{"image_id": i, "colour": "red", "code": b"\x01"} for i in range(5)]
    path = tmp_path / "colours/00000.parquet"
    assert write_table(path, "colours", rows, CATEGORIES) == 5
    assert pq.read_metadata(path).num_row_groups == 3
    written = columns_of(path)
    assert ["RLE_DICTIONARY" in written[c.name].encodings for c in columns] == [False, True, False]
    assert [written[c.name].statistics is not None for c in columns] == [True, True, False]
    assert read_table(tmp_path, "colours").to_pylist() == rows
    assert read_rows(tmp_path, "colours", [2]) == rows[2:3]


def test_tables_are_registered_by_their_own_names_and_repeat_no_column():
    for name, table in TABLES.items():
        assert table.name == name
        assert len(set(table.schema.names)) == len(table.columns)


def test_columns_of_one_name_are_the_same_in_every_table():
    columns = {}
    for table in TABLES.values():
        for column in table.columns:
            assert columns.setdefault(column.name, column) == column


def test_each_row_of_structure_is_read_alone(tmp_path):
    row = {
        "file_name": "a.jpg",
        "height": 4,
        "width": 6,
        "grid": 2,
        "points": [1.0, 2.0],
        "similarity": bytes(4),
        "scale": [1.0],
        "offset": [0.0],
    }
    path = tmp_path / "structure/00000.parquet"
    write_table(path, "structure", [row | {"image_id": i} for i in range(3)], CATEGORIES)
    assert pq.read_metadata(path).num_row_groups == 3


def test_decisions_are_written_and_shown_as_their_values(tmp_path):
    files = []
    for name, decisions in (("named", [*Decision]), ("plain", ["refined", "kept", "dropped"])):
        refined = {"teacher_mask_rle": MASK, "candidate_ious": [], "candidate": -1}
        refined |= {"agreement": 1.0, "area_ratio": 1.0, "reason_code": "", "reason": ""}
        rows = [
            prediction(1, n) | refined | {"decision": decision}
            for n, decision in enumerate(decisions)
        ]
        files.append(tmp_path / name / "refined/00000.parquet")
        write_table(files[-1], "refined", rows, CATEGORIES)
    assert files[0].read_bytes() == files[1].read_bytes()
    found = read_table(tmp_path / "named", "refined")["decision"].to_pylist()
    assert found == ["refined", "kept", "dropped"]
    assert f"{Decision.KEPT} {Decision.KEPT!s}" == "kept kept"
    assert json.dumps([*Decision]) == '["refined", "kept", "dropped"]'


def without(path, *names):
    """Rewrite a file as it was written before there were some columns."""
    rows = pq.read_table(path, partitioning=None)
    pq.write_table(rows.drop_columns(list(names)), path)


def test_a_file_from_before_there_were_views_reads_as_of_one(tmp_path):
    path = tmp_path / "predictions/00000.parquet"
    silent = prediction(2)
    del silent["views_seen"]
    write_table(path, "predictions", [prediction(1), silent], CATEGORIES)
    whole = read_table(tmp_path, "predictions")
    assert whole["views_seen"].to_pylist() == [1, 1]
    without(path, "views_seen")
    assert read_table(tmp_path, "predictions").equals(whole)
    (row,) = read_rows(tmp_path, "predictions", [2])
    assert list(row) == TABLES["predictions"].schema.names
    assert row["views_seen"] == 1
    assert read_rows(tmp_path, "predictions", [2], ["image_id", "views_seen", "score"]) == [
        {"image_id": 2, "views_seen": 1, "score": 0.5}
    ]
    rows = list(table_rows(tmp_path, "predictions", ["views_seen", "image_id"]))
    assert rows == [{"views_seen": 1, "image_id": 1}, {"views_seen": 1, "image_id": 2}]
    assert read_table(tmp_path, "predictions", ["score"]).schema.names == ["score"]


def test_a_file_without_a_column_that_every_row_has_is_refused(tmp_path):
    path = tmp_path / "predictions/00000.parquet"
    write_table(path, "predictions", [prediction(1)], CATEGORIES)
    without(path, "score", "views_seen")
    with pytest.raises(ArtifactError, match=r"columns missing: score$"):
        read_table(tmp_path, "predictions")
