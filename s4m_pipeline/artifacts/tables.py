"""The Parquet tables that pass between stages: schemas, writing, reading.

Conventions are COCO's: ``bbox`` is x, y, width, height in pixels, masks are COCO's compressed RLE.
Every file carries the format version and the category list in its schema's metadata.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from s4m_pipeline.artifacts.fingerprint import FORMAT_VERSION
from s4m_pipeline.errors import ArtifactError

if TYPE_CHECKING:
    import pyarrow.parquet as pq

ROW_GROUP = 8192
"""Rows in a row group: each costs every column a seek and a page."""
COMPRESSION_LEVEL = 9
"""Zstandard's: a tenth smaller than its first, and written far faster than masks are made."""
_LEVELS = {"structure": 1}  # a megabyte a row, which a higher level takes ten times as long for
_ROW_GROUPS = {"structure": 1}  # a row is up to a megabyte and read alone

_PREDICTIONS: list[tuple[str, pa.DataType]] = [
    ("image_id", pa.int64()),
    ("file_name", pa.string()),
    ("height", pa.int32()),
    ("width", pa.int32()),
    ("instance_id", pa.int32()),
    ("category_id", pa.int32()),
    ("score", pa.float32()),
    ("class_probs", pa.list_(pa.float32())),
    ("bbox", pa.list_(pa.float32(), 4)),
    ("area", pa.int32()),
    ("mask_rle", pa.binary()),
    ("prompt_points", pa.list_(pa.float32())),
    ("soft_mask", pa.binary()),
    ("soft_mask_box", pa.list_(pa.int32(), 4)),
    ("soft_mask_stride", pa.float32()),
]
_REFINED: list[tuple[str, pa.DataType]] = [
    *_PREDICTIONS,
    ("teacher_mask_rle", pa.binary()),
    ("candidate_ious", pa.list_(pa.float32())),
    ("candidate", pa.int8()),
    ("agreement", pa.float32()),
    ("area_ratio", pa.float32()),
    ("decision", pa.string()),
    ("reason", pa.string()),
]
_STRUCTURE: list[tuple[str, pa.DataType]] = [
    ("image_id", pa.int64()),
    ("file_name", pa.string()),
    ("height", pa.int32()),
    ("width", pa.int32()),
    ("grid", pa.int16()),
    ("points", pa.list_(pa.float32())),
    ("similarity", pa.binary()),
    ("scale", pa.list_(pa.float32())),
    ("offset", pa.list_(pa.float32())),
]
_QUARANTINE: list[tuple[str, pa.DataType]] = [
    ("image_id", pa.int64()),
    ("file_name", pa.string()),
    ("stage", pa.string()),
    ("error", pa.string()),
    ("attempts", pa.int32()),
]
_SEGMENTED: list[tuple[str, pa.DataType]] = [
    ("image_id", pa.int64()),
    ("instance_id", pa.int32()),
    *[
        column
        for column in _REFINED
        if column[0]
        in (
            "mask_rle",
            "bbox",
            "area",
            "candidate_ious",
            "candidate",
            "agreement",
            "area_ratio",
            "decision",
            "reason",
        )
    ],
]
_CALIBRATION: list[tuple[str, pa.DataType]] = [
    ("image_id", pa.int64()),
    ("instance_id", pa.int32()),
    ("category_id", pa.int32()),
    ("score", pa.float32()),
    ("area", pa.int32()),
    ("policy", pa.string()),
    ("decision", pa.string()),
    ("iou_before", pa.float32()),
    ("iou_after", pa.float32()),
]

SCHEMAS: dict[str, pa.Schema] = {
    "predictions": pa.schema(_PREDICTIONS),
    "refined": pa.schema(_REFINED),
    "structure": pa.schema(_STRUCTURE),
    "quarantine": pa.schema(_QUARANTINE),
    "segmented": pa.schema(_SEGMENTED),
    "calibration": pa.schema(_CALIBRATION),
}
"""Arrow schema of each table, without metadata."""

_NO_DICTIONARY = frozenset({"mask_rle", "teacher_mask_rle", "soft_mask", "similarity"})


def schema_with_metadata(table: str, categories: Sequence[Mapping[str, Any]]) -> pa.Schema:
    """Schema of ``table`` with the format version, its own name and the categories in it."""
    return SCHEMAS[table].with_metadata(
        {
            "format_version": str(FORMAT_VERSION),
            "table": table,
            "categories": json.dumps(list(categories)),
        }
    )


def write_table(
    path: Path,
    table: str,
    rows: Iterable[Mapping[str, Any]],
    categories: Sequence[Mapping[str, Any]],
) -> int:
    """Write rows to one Parquet file, by rename, so that a file that is there is whole.

    Args:
        path: The file to make.
        table: A name in ``SCHEMAS``.
        rows: One mapping a row; sorted by image already.
        categories: ``{"id", "name"}`` of each category, in label order.

    Returns:
        The number of rows.
    """
    import pyarrow.parquet as pq  # `s4m status` does without

    schema = schema_with_metadata(table, categories)
    data = pa.Table.from_pylist([dict(row) for row in rows], schema=schema)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    pq.write_table(
        data,
        partial,
        compression="zstd",
        compression_level=_LEVELS.get(table, COMPRESSION_LEVEL),
        row_group_size=_ROW_GROUPS.get(table, ROW_GROUP),
        use_dictionary=[n for n in schema.names if n not in _NO_DICTIONARY],
    )
    partial.replace(path)
    return int(data.num_rows)


def table_files(folder: Path, table: str) -> list[Path]:
    """The Parquet files of ``table`` in an artifact's folder, in shard order."""
    return sorted((folder / table).glob("*.parquet"))


def check_schema(path: Path, table: str) -> pa.Schema:
    """Read a file's schema and refuse what is damaged or of another format version.

    Raises:
        ArtifactError: Not Parquet, another format version, another table, or columns missing.
    """
    with open_table(path, table) as opened:
        return opened.schema_arrow


def open_table(path: Path, table: str) -> pq.ParquetFile:
    """Open a table's file; refuse what `check_schema` refuses.

    Raises:
        ArtifactError: Not Parquet, another format version, another table, or columns missing.
    """
    import pyarrow.parquet as pq  # `s4m status` does without

    try:
        opened = pq.ParquetFile(path)
    except (OSError, pa.ArrowException) as error:
        raise ArtifactError(
            f"{path}: not a readable Parquet file ({str(error).splitlines()[0]})"
        ) from error
    found = opened.schema_arrow
    metadata = found.metadata or {}
    version = metadata.get(b"format_version", b"none").decode()
    if version != str(FORMAT_VERSION):
        raise ArtifactError(
            f"{path}: format version {version}, this s4m reads {FORMAT_VERSION}.\n"
            "Make the artifact again with --force on its stage."
        )
    missing = [name for name in SCHEMAS[table].names if name not in found.names]
    if missing:
        raise ArtifactError(f"{path}: no {table} table, columns missing: {', '.join(missing)}")
    return opened


def read_table(folder: Path, table: str, columns: Sequence[str] | None = None) -> pa.Table:
    """Read a table of an artifact, all of its shards, in image order.

    Args:
        folder: The artifact's folder.
        table: A name in ``SCHEMAS``.
        columns: The columns to read; all when None.

    Returns:
        The table; with no rows where the artifact holds none. Categories stand in the schema's
        metadata under ``categories`` as JSON.

    Raises:
        ArtifactError: A file is damaged or of another format version.
    """
    files = table_files(folder, table)
    if not files:
        return _select(schema_with_metadata(table, []).empty_table(), columns)
    parts, wanted = [], list(columns) if columns else None
    for path in files:
        try:
            with open_table(path, table) as opened:
                # for a few columns, handing work to threads costs more than the reading
                parts.append(opened.read(columns=wanted, use_threads=wanted is None))
        except (OSError, pa.ArrowException) as error:
            raise ArtifactError(f"{path}: damaged ({str(error).splitlines()[0]})") from error
    return pa.concat_tables(parts)


def _select(table: pa.Table, columns: Sequence[str] | None) -> pa.Table:
    return table.select(list(columns)) if columns else table


def categories_of(table: pa.Table) -> list[dict[str, Any]]:
    """The category list that a table carries in its schema's metadata."""
    return list(json.loads((table.schema.metadata or {}).get(b"categories", b"[]")))


def read_rows(folder: Path, table: str, image_ids: Sequence[int]) -> list[dict[str, Any]]:
    """Read the rows of some images, leaving row groups of other images unread.

    Args:
        folder: The artifact's folder.
        table: A name in ``SCHEMAS``.
        image_ids: The images.

    Returns:
        One mapping a row, in the table's order.
    """
    import pyarrow.parquet as pq  # `s4m status` does without

    if not image_ids:
        return []
    low, high = min(image_ids), max(image_ids)
    keep = [("image_id", ">=", low), ("image_id", "<=", high)]
    wanted = set(image_ids)
    rows: list[dict[str, Any]] = []
    for path in table_files(folder, table):
        first, last = _image_span(path, table)
        if last < low or first > high:
            continue
        try:
            found = pq.read_table(path, filters=keep, partitioning=None)
        except (OSError, pa.ArrowException) as error:
            raise ArtifactError(f"{path}: damaged ({str(error).splitlines()[0]})") from error
        rows += [row for row in found.to_pylist() if row["image_id"] in wanted]
    return rows


@lru_cache(maxsize=4096)
def _image_span(path: Path, table: str) -> tuple[int, int]:
    """Smallest and largest image id of a file, from its statistics; (1, 0) where it has no row."""
    with open_table(path, table) as opened:
        metadata, column = opened.metadata, opened.schema_arrow.names.index("image_id")
    spans = [
        metadata.row_group(i).column(column).statistics for i in range(metadata.num_row_groups)
    ]
    if not metadata.num_rows:
        return 1, 0
    return min(span.min for span in spans), max(span.max for span in spans)
