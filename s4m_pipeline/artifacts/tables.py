"""The Parquet tables that pass between stages: writing and reading.

What stands in them is told in ``artifacts.schemas``. The commands that only look at artifacts, such
as ``s4m status``, import this file, so Arrow is imported by the functions that need it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from s4m_pipeline.artifacts.fingerprint import FORMAT_VERSION
from s4m_pipeline.errors import ArtifactError

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

ROW_GROUP = 8192
"""Rows in a row group: each costs every column a seek and a page."""
COMPRESSION_LEVEL = 9
"""Zstandard's: a tenth smaller than its first, and written far faster than masks are made."""
_LEVELS = {"structure": 1}  # a megabyte a row, which a higher level takes ten times as long for
_ROW_GROUPS = {"structure": 1}  # a row is up to a megabyte and read alone
_BYTES = frozenset({"mask_rle", "teacher_mask_rle", "soft_mask", "similarity"})
"""Columns whose least and greatest value tell nobody anything."""
_RECURRING = frozenset(
    {
        "file_name",
        "height",
        "width",
        "instance_id",
        "category_id",
        "soft_mask_stride",
        "candidate",
        "decision",
        "reason",
        "grid",
        "stage",
        "error",
        "attempts",
        "policy",
    }
)
"""Columns that a dictionary makes smaller; of others it makes a second page to read."""


def write_table(
    path: Path,
    table: str,
    rows: Iterable[Mapping[str, Any]],
    categories: Sequence[Mapping[str, Any]],
) -> int:
    """Write rows to one Parquet file, by rename, so that a file that is there is whole.

    Args:
        path: The file to make.
        table: A name in ``schemas.SCHEMAS``.
        rows: One mapping a row; sorted by image already.
        categories: ``{"id", "name"}`` of each category, in label order.

    Returns:
        The number of rows.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    from s4m_pipeline.artifacts.schemas import schema_with_metadata

    schema = schema_with_metadata(table, categories)
    group = _ROW_GROUPS.get(table, ROW_GROUP)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    left, count = iter(rows), 0
    with pq.ParquetWriter(
        partial,
        schema,
        compression="zstd",
        compression_level=_LEVELS.get(table, COMPRESSION_LEVEL),
        use_dictionary=[n for n in schema.names if n in _RECURRING],
        write_statistics=[n for n in schema.names if n not in _BYTES],
    ) as writer:
        # a row group at a time, so that no second copy of all rows is in memory
        while some := [dict(row) for row in islice(left, group)]:
            writer.write_table(pa.Table.from_pylist(some, schema=schema), row_group_size=group)
            count += len(some)
        if not count:
            writer.write_table(schema.empty_table())
    partial.replace(path)
    return count


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


def open_table(path: Path, table: str, ahead: bool = True) -> pq.ParquetFile:
    """Open a table's file; refuse what `check_schema` refuses.

    Args:
        path: The file.
        table: A name in ``schemas.SCHEMAS``.
        ahead: Fetch the columns together, by Arrow's threads. For a few columns, handing them over
            costs more than reading them.

    Raises:
        ArtifactError: Not Parquet, another format version, another table, or columns missing.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    from s4m_pipeline.artifacts.schemas import SCHEMAS

    try:
        opened = pq.ParquetFile(path, pre_buffer=ahead)
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
        table: A name in ``schemas.SCHEMAS``.
        columns: The columns to read; all when None.

    Returns:
        The table; with no rows where the artifact holds none. Categories stand in the schema's
        metadata under ``categories`` as JSON.

    Raises:
        ArtifactError: A file is damaged or of another format version.
    """
    import pyarrow as pa

    from s4m_pipeline.artifacts.schemas import schema_with_metadata

    files = table_files(folder, table)
    if not files:
        return _select(schema_with_metadata(table, []).empty_table(), columns)
    wanted = list(columns) if columns else None
    whole, parts = wanted is None, []
    for path in files:
        try:
            with open_table(path, table, ahead=whole) as opened:
                parts.append(opened.read(columns=wanted, use_threads=whole))
        except (OSError, pa.ArrowException) as error:
            raise ArtifactError(f"{path}: damaged ({str(error).splitlines()[0]})") from error
    return pa.concat_tables(parts)


def _select(table: pa.Table, columns: Sequence[str] | None) -> pa.Table:
    return table.select(list(columns)) if columns else table


def categories_of(table: pa.Table) -> list[dict[str, Any]]:
    """The category list that a table carries in its schema's metadata."""
    return list(json.loads((table.schema.metadata or {}).get(b"categories", b"[]")))


def read_rows(
    folder: Path, table: str, image_ids: Sequence[int], columns: Sequence[str] | None = None
) -> list[dict[str, Any]]:
    """Read the rows of some images, leaving row groups of other images unread.

    Args:
        folder: The artifact's folder.
        table: A name in ``schemas.SCHEMAS``.
        image_ids: The images.
        columns: The columns to read, ``image_id`` among them; all when None.

    Returns:
        One mapping a row, in the table's order.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    if not image_ids:
        return []
    low, high = min(image_ids), max(image_ids)
    keep = [("image_id", ">=", low), ("image_id", "<=", high)]
    wanted, names = set(image_ids), None if columns is None else list(columns)
    rows: list[dict[str, Any]] = []
    for path in table_files(folder, table):
        state = path.stat()
        first, last = _image_span(path, table, state.st_size, state.st_mtime_ns)
        if last < low or first > high:
            continue
        try:
            found = pq.read_table(path, columns=names, filters=keep, partitioning=None)
        except (OSError, pa.ArrowException) as error:
            raise ArtifactError(f"{path}: damaged ({str(error).splitlines()[0]})") from error
        rows += [row for row in found.to_pylist() if row["image_id"] in wanted]
    return rows


@lru_cache(maxsize=4096)
def _image_span(path: Path, table: str, size: int, changed: int) -> tuple[int, int]:
    """Smallest and largest image id of a file, from its statistics; (1, 0) where it has no row.

    Its size and the time of its last change are there for the cache: `--force` writes it anew.
    """
    with open_table(path, table) as opened:
        metadata, column = opened.metadata, opened.schema_arrow.names.index("image_id")
    spans = [
        metadata.row_group(i).column(column).statistics for i in range(metadata.num_row_groups)
    ]
    if not metadata.num_rows:
        return 1, 0
    return min(span.min for span in spans), max(span.max for span in spans)
