"""One file of a table: opened, its rows read, and both checked.

Commands that only look at artifacts come by here and must answer at once, so the functions that
need Arrow import it themselves.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from s4m_pipeline.artifacts.file_facts import FileState, state_of
from s4m_pipeline.artifacts.fingerprint import check_format_version
from s4m_pipeline.artifacts.table_faults import arrow_faults
from s4m_pipeline.errors import ArtifactError

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

Rows = TypeVar("Rows", "pa.Table", "pa.RecordBatch")


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
    import pyarrow.parquet as pq

    from s4m_pipeline.artifacts.table_checks import check_schema_of
    from s4m_pipeline.artifacts.table_definitions import TABLES

    with arrow_faults(path, "not a readable Parquet file"):
        file = pq.ParquetFile(path, pre_buffer=ahead)
        schema = file.schema_arrow
    metadata = schema.metadata or {}
    version = metadata.get(b"format_version", b"none").decode("utf-8", "backslashreplace")
    check_format_version(version, path, path.parent.parent)
    may_lack = TABLES[table].defaults
    missing = [n for n in TABLES[table].schema.names if n not in schema.names and n not in may_lack]
    if missing:
        raise ArtifactError(f"{path}: no {table} table, columns missing: {', '.join(missing)}")
    check_schema_of(path, table, schema)
    return file


def read_file(
    path: Path, table: str, columns: Sequence[str] | None = None, ahead: bool = True
) -> pa.Table:
    """Read a table's file and check its rows.

    Args:
        path: The file.
        table: A name in ``table_definitions.TABLES``.
        columns: The columns to read; all when None.
        ahead: As for `open_table`.

    Raises:
        ArtifactError: It is damaged, of another format version, or holds what no stage writes.
    """
    from s4m_pipeline.artifacts.table_checks import check_rows

    names = None if columns is None else list(columns)
    with arrow_faults(path), open_table(path, table, ahead) as file:
        rows = file.read(columns=names, use_threads=ahead)
    rows = with_defaults(rows, table, names)
    check_rows(path, rows)
    return rows


def read_some(
    path: Path, table: str, columns: Sequence[str] | None, filters: Sequence[tuple[str, str, Any]]
) -> pa.Table:
    """Read some rows of a table's file and check them. What is filtered by is checked in all rows.

    Args:
        path: The file.
        table: A name in ``table_definitions.TABLES``.
        columns: The columns to read; all when None.
        filters: Conditions as pyarrow takes them, all of which a row meets.

    Raises:
        ArtifactError: It is damaged, of another format version, or holds what no stage writes.
    """
    import pyarrow.parquet as pq

    from s4m_pipeline.artifacts.table_checks import check_rows

    filtered = tuple(sorted({name for name, _, _ in filters}))
    _check_columns(path, table, filtered, state_of(path))
    names = None if columns is None else list(columns)
    with arrow_faults(path):
        there = None if names is None else _those_in(path, names)
        rows = pq.read_table(path, columns=there, filters=list(filters), partitioning=None)
    rows = with_defaults(rows, table, names)
    check_rows(path, rows)
    return rows


def _those_in(path: Path, names: Sequence[str]) -> list[str]:
    """Those of some columns that a file has; it was looked at before."""
    import pyarrow.parquet as pq

    stored = pq.read_schema(path).names
    return [name for name in names if name in stored]


def with_defaults(rows: Rows, table: str, columns: Sequence[str] | None = None) -> Rows:
    """Add the columns that a file written before there were such ones lacks.

    Args:
        rows: Rows of a file, with the columns that are wanted and there.
        table: A name in ``table_definitions.TABLES``.
        columns: The columns that are wanted; all when None.
    """
    import pyarrow as pa

    from s4m_pipeline.artifacts.table_definitions import TABLES

    definition = TABLES[table]
    wanted = definition.schema.names if columns is None else list(columns)
    absent = [n for n in definition.defaults if n in wanted and n not in rows.schema.names]
    for name in absent:
        field = definition.schema.field(name)
        value = pa.scalar(definition.defaults[name], field.type)
        rows = rows.append_column(field, pa.repeat(value, rows.num_rows))
    return rows.select(wanted) if absent else rows


@lru_cache(maxsize=4096)
def _check_columns(path: Path, table: str, columns: tuple[str, ...], state: FileState) -> None:
    """Check columns of all rows, once for each state of a file."""
    del state
    read_file(path, table, columns, ahead=False)


def categories_of(table: pa.Table) -> list[dict[str, Any]]:
    """The category list that a table carries in its schema's metadata."""
    return list(json.loads((table.schema.metadata or {}).get(b"categories", b"[]")))
