"""Write and read the Parquet tables that ``artifacts.table_definitions`` defines.

Commands that only look at artifacts, such as ``s4m status``, import this file and must answer at
once, so the functions that need Arrow import it themselves.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from s4m_pipeline.artifacts.fingerprint import check_format_version
from s4m_pipeline.errors import ArtifactError

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq


def write_table(
    path: Path,
    table: str,
    rows: Iterable[Mapping[str, Any]],
    categories: Sequence[Mapping[str, Any]],
) -> int:
    """Write rows to one Parquet file, by rename, so that an existing file is complete.

    Args:
        path: The file to make.
        table: A name in ``table_definitions.TABLES``.
        rows: One mapping a row; sorted by image already.
        categories: ``{"id", "name"}`` of each category, in label order.

    Returns:
        The number of rows.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    from s4m_pipeline.artifacts.table_definitions import TABLES

    definition = TABLES[table]
    schema = definition.schema_with(categories)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    remaining, count = iter(rows), 0
    with pq.ParquetWriter(
        partial,
        schema,
        compression="zstd",
        compression_level=definition.compression_level,
        use_dictionary=definition.with_dictionary,
        write_statistics=definition.with_statistics,
    ) as writer:
        # one row group at a time, so that no second copy of all rows is in memory
        while group := [dict(row) for row in islice(remaining, definition.row_group)]:
            arrow = pa.Table.from_pylist(group, schema=schema)
            writer.write_table(arrow, row_group_size=definition.row_group)
            count += len(group)
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
    with open_table(path, table) as file:
        return file.schema_arrow


def open_table(path: Path, table: str, ahead: bool = True) -> pq.ParquetFile:
    """Open a table's file; refuse what ``check_schema`` refuses.

    Args:
        path: The file.
        table: A name in ``table_definitions.TABLES``.
        ahead: Fetch the columns together in Arrow's threads. For a few columns the threads cost
            more than they save.

    Raises:
        ArtifactError: Not Parquet, another format version, another table, or columns missing.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    from s4m_pipeline.artifacts.table_definitions import TABLES

    try:
        file = pq.ParquetFile(path, pre_buffer=ahead)
    except (OSError, pa.ArrowException) as error:
        raise ArtifactError(
            f"{path}: not a readable Parquet file ({str(error).splitlines()[0]})"
        ) from error
    schema = file.schema_arrow
    metadata = schema.metadata or {}
    version = metadata.get(b"format_version", b"none").decode()
    check_format_version(version, path, path.parent.parent)
    missing = [name for name in TABLES[table].schema.names if name not in schema.names]
    if missing:
        raise ArtifactError(f"{path}: no {table} table, columns missing: {', '.join(missing)}")
    return file


def read_table(folder: Path, table: str, columns: Sequence[str] | None = None) -> pa.Table:
    """Read a table of an artifact, all of its shards, in image order.

    Args:
        folder: The artifact's folder.
        table: A name in ``table_definitions.TABLES``.
        columns: The columns to read; all when None.

    Returns:
        The table; with no rows where the artifact holds none. Categories stand in the schema's
        metadata under ``categories`` as JSON.

    Raises:
        ArtifactError: A file is damaged or of another format version.
    """
    import pyarrow as pa

    from s4m_pipeline.artifacts.table_definitions import TABLES

    files = table_files(folder, table)
    if not files:
        return _select(TABLES[table].schema_with([]).empty_table(), columns)
    wanted = list(columns) if columns else None
    whole, parts = wanted is None, []
    for path in files:
        try:
            with open_table(path, table, ahead=whole) as file:
                parts.append(file.read(columns=wanted, use_threads=whole))
        except (OSError, pa.ArrowException) as error:
            raise ArtifactError(f"{path}: damaged ({str(error).splitlines()[0]})") from error
    return pa.concat_tables(parts)


def table_rows(folder: Path, table: str, columns: Sequence[str]) -> Iterator[dict[str, Any]]:
    """The rows of a table one after the other, so that a look at the first ones is cheap.

    Args:
        folder: The artifact's folder.
        table: A name in ``table_definitions.TABLES``.
        columns: The columns to read.

    Raises:
        ArtifactError: A file is damaged or of another format version.
    """
    import pyarrow as pa

    for path in table_files(folder, table):
        try:
            with open_table(path, table, ahead=False) as file:
                for batch in file.iter_batches(1024, columns=list(columns)):
                    yield from batch.to_pylist()
        except (OSError, pa.ArrowException) as error:
            raise ArtifactError(f"{path}: damaged ({str(error).splitlines()[0]})") from error


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
        table: A name in ``table_definitions.TABLES``.
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
            part = pq.read_table(path, columns=names, filters=keep, partitioning=None)
        except (OSError, pa.ArrowException) as error:
            raise ArtifactError(f"{path}: damaged ({str(error).splitlines()[0]})") from error
        rows += [row for row in part.to_pylist() if row["image_id"] in wanted]
    return rows


@lru_cache(maxsize=4096)
def _image_span(path: Path, table: str, size: int, changed: int) -> tuple[int, int]:
    """Smallest and largest image id of a file, from its statistics; (1, 0) where it has no row.

    Size and time of change are part of the cache's key, because ``--force`` writes files anew.
    """
    with open_table(path, table) as file:
        metadata, column = file.metadata, file.schema_arrow.names.index("image_id")
    spans = [
        metadata.row_group(i).column(column).statistics for i in range(metadata.num_row_groups)
    ]
    if not metadata.num_rows:
        return 1, 0
    return min(span.min for span in spans), max(span.max for span in spans)
