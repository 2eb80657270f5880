"""One file of a table: opened, its rows read, and both checked.

Commands that only look at artifacts come by here and must answer at once, so the functions that
need Arrow import it themselves.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from s4m_pipeline.artifacts.file_facts import FileState, state_of
from s4m_pipeline.artifacts.fingerprint import check_format_version
from s4m_pipeline.artifacts.table_faults import arrow_faults, damaged
from s4m_pipeline.errors import ArtifactError
from s4m_pipeline.strict_json import read_json

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

Rows = TypeVar("Rows", "pa.Table", "pa.RecordBatch")
Filter = tuple[str, str, Any]
"""A column of numbers, ``>``, ``>=``, ``<=`` or ``in``, and a number, or a list of them."""


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
    return read_in_groups(path, table, columns, ahead)[0]


def read_some(
    path: Path, table: str, columns: Sequence[str] | None, filters: Sequence[Filter]
) -> pa.Table:
    """Read some rows of a table's file and check them. What is filtered by is checked in all rows.

    Args:
        path: The file.
        table: A name in ``table_definitions.TABLES``.
        columns: The columns to read; all when None.
        filters: Conditions on columns of numbers, all of which a row meets.

    Raises:
        ArtifactError: It is damaged, of another format version, or holds what no stage writes.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    from s4m_pipeline.artifacts.table_checks import check_rows

    groups = groups_with(path, table, filters)
    filtered = [name for name, _, _ in filters]
    names = None if columns is None else list(columns)
    read = None if names is None else list(dict.fromkeys([*names, *filtered]))
    wanted = pq.filters_to_expression(list(filters))
    with arrow_faults(path), open_table(path, table, ahead=False) as file:
        empty = file.schema_arrow.empty_table()
        there = None if read is None else [name for name in read if name in empty.schema.names]
        parts = [empty if there is None else empty.select(there)]
        # one group after the other, so that the rows that are left out are not all in memory
        parts += [file.read_row_group(group, columns=there).filter(wanted) for group in groups]
        rows = pa.concat_tables(parts)
    rows = with_defaults(rows, table, read)
    rows = rows if names is None else rows.select(names)
    check_rows(path, rows)
    return rows


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


def groups_with(path: Path, table: str, filters: Sequence[Filter]) -> list[int]:
    """Row groups of a file in which rows may meet all of some conditions.

    What each group holds is seen from its values. A file's statistics say it too, but a damaged
    byte among them hides rows that are there, and Arrow ends the process over some.

    Args:
        path: The file.
        table: A name in ``table_definitions.TABLES``.
        filters: As for `read_some`.

    Raises:
        ArtifactError: The file is damaged, of another format version, or values of the columns are
            such as no stage writes.
    """
    names = tuple(sorted({name for name, _, _ in filters}))
    spans = dict(zip(names, _spans(path, table, names, state_of(path)), strict=True))
    groups = range(len(spans[names[0]]))
    return [
        g for g in groups if all(_may_meet(spans[name][g], how, of) for name, how, of in filters)
    ]


def _may_meet(span: np.ndarray, how: str, value: Any) -> bool:
    """Whether one of the numbers of a span, least and greatest, may meet a condition."""
    low, high = span.tolist()
    if low > high:  # no numbers
        return False
    least, greatest = (min(value), max(value)) if how == "in" else (value, value)
    return bool((high >= least or how == "<=") and (low <= greatest or how in (">", ">=")))


@lru_cache(maxsize=4096)
def _spans(
    path: Path, table: str, columns: tuple[str, ...], state: FileState
) -> tuple[np.ndarray, ...]:
    """Least and greatest value of each row group, (G, 2) for each column, whose rows are checked.

    They are kept for each state of a file, as ``--force`` writes files anew. A group without rows
    has a least value above its greatest.
    """
    del state
    import numpy as np

    rows, counts = read_in_groups(path, table, columns)
    filled, starts = np.flatnonzero(counts), (counts.cumsum() - counts)[counts > 0]
    found = []
    for name in columns:
        values = rows[name].to_numpy()
        span = np.array([[1, 0]] * len(counts), values.dtype).reshape(-1, 2)
        if len(filled):
            span[filled, 0] = np.minimum.reduceat(values, starts)
            span[filled, 1] = np.maximum.reduceat(values, starts)
        found.append(span)
    return tuple(found)


def read_in_groups(
    path: Path, table: str, columns: Sequence[str] | None, ahead: bool = False
) -> tuple[pa.Table, np.ndarray]:
    """Read a table's file as `read_file`, and count the rows of each row group, int64 (G,).

    Raises:
        ArtifactError: As of `read_file`, or the file holds another number of rows than it says.
    """
    from s4m_pipeline.artifacts.table_checks import check_rows

    names = None if columns is None else list(columns)
    with arrow_faults(path), open_table(path, table, ahead) as file:
        counts = rows_of_groups(path, file)
        rows = file.read(columns=names, use_threads=ahead)
    rows = with_defaults(rows, table, names)
    check_rows(path, rows)
    if rows.num_rows != counts.sum():
        raise damaged(path, "its row groups have other numbers of rows")
    return rows, counts


def rows_of_groups(path: Path, file: pq.ParquetFile) -> np.ndarray:
    """How many rows each row group of an open file has as it says, int64 (G,).

    Raises:
        ArtifactError: Together they are not as many as the file says.
    """
    import numpy as np

    said, groups = file.metadata, file.num_row_groups
    counts = np.array([said.row_group(group).num_rows for group in range(groups)], np.int64)
    if (counts < 0).any() or counts.sum() != said.num_rows:
        raise damaged(path, f"its row groups have {counts.sum()} rows, not {said.num_rows}")
    return counts


def categories_of(table: pa.Table) -> list[dict[str, Any]]:
    """The category list that a table carries in its schema's metadata."""
    return list(read_json((table.schema.metadata or {}).get(b"categories", b"[]")))
