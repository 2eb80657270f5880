"""Write and read the Parquet tables that ``artifacts.table_definitions`` defines.

Commands that only look at artifacts, such as ``s4m status``, import this file and must answer at
once, so the functions that need Arrow import it themselves.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from s4m_pipeline.artifacts.durable import make_folder, put_in_place
from s4m_pipeline.artifacts.listed import listed_files
from s4m_pipeline.artifacts.table_faults import arrow_faults, damaged
from s4m_pipeline.artifacts.table_file import (
    groups_with,
    open_table,
    read_file,
    read_some,
    rows_of_groups,
    with_defaults,
)

if TYPE_CHECKING:
    import pyarrow as pa


def write_table(
    path: Path,
    table: str,
    rows: Iterable[Mapping[str, Any]],
    categories: Sequence[Mapping[str, Any]],
) -> int:
    """Write rows to one Parquet file, by rename and durably, so that an existing file is complete.

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
    make_folder(path.parent)
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
        defaults = definition.defaults
        while group := [{**defaults, **row} for row in islice(remaining, definition.row_group)]:
            arrow = pa.Table.from_pylist(group, schema=schema)
            writer.write_table(arrow, row_group_size=definition.row_group)
            count += len(group)
        if not count:
            writer.write_table(schema.empty_table())
    put_in_place(partial, path)
    return count


def table_files(folder: Path, table: str, unfinished: bool = False) -> list[Path]:
    """The Parquet files of ``table`` in an artifact's folder, in shard order.

    These are the files that the manifest lists, whatever else lies there; in an unfinished artifact
    those that the shards' markers list. A folder that is no artifact is taken as it is.

    Args:
        folder: The artifact's folder.
        table: A name in ``table_definitions.TABLES``.
        unfinished: Whether the artifact may be one that is being made, as for its own stage.

    Raises:
        ArtifactError: There is no such artifact, it is unfinished, or its manifest is damaged.
    """
    listed = listed_files(folder, unfinished)
    if listed is None:
        return sorted((folder / table).glob("*.parquet"))
    paths = (PurePosixPath(path) for path in listed)
    return sorted(
        folder / path for path in paths if path.parts[:-1] == (table,) and path.suffix == ".parquet"
    )


def read_table(
    folder: Path, table: str, columns: Sequence[str] | None = None, unfinished: bool = False
) -> pa.Table:
    """Read a table of an artifact, all of its shards, in image order.

    Args:
        folder: The artifact's folder.
        table: A name in ``table_definitions.TABLES``.
        columns: The columns to read; all when None.
        unfinished: Whether the artifact may be one that is being made.

    Returns:
        The table; with no rows where the artifact holds none. Categories stand in the schema's
        metadata under ``categories`` as JSON.

    Raises:
        ArtifactError: A file is damaged or of another format version.
    """
    import pyarrow as pa

    from s4m_pipeline.artifacts.table_definitions import TABLES

    files = table_files(folder, table, unfinished)
    if not files:
        return _select(TABLES[table].schema_with([]).empty_table(), columns)
    wanted = columns or None
    parts = [read_file(path, table, wanted, ahead=wanted is None) for path in files]
    return pa.concat_tables(parts)


def table_rows(folder: Path, table: str, columns: Sequence[str]) -> Iterator[dict[str, Any]]:
    """The rows of a table one after the other, so that a look at the first ones is cheap.

    Args:
        folder: The artifact's folder; its manifest may not be written yet.
        table: A name in ``table_definitions.TABLES``.
        columns: The columns to read.

    Raises:
        ArtifactError: A file is damaged or of another format version.
    """
    from s4m_pipeline.artifacts.table_checks import check_rows

    for path in table_files(folder, table, unfinished=True):
        with arrow_faults(path), open_table(path, table, ahead=False) as file:
            left = rows_of_groups(path, file).sum()
            for batch in file.iter_batches(1024, columns=list(columns)):
                rows = with_defaults(batch, table, columns)
                check_rows(path, rows)
                left -= rows.num_rows
                yield from rows.to_pylist()
            if left:
                raise damaged(path, f"it has not the {file.metadata.num_rows} rows that it says")


def _select(table: pa.Table, columns: Sequence[str] | None) -> pa.Table:
    return table.select(list(columns)) if columns else table


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
    if not image_ids:
        return []
    low, high = min(image_ids), max(image_ids)
    keep = [("image_id", ">=", low), ("image_id", "<=", high)]
    wanted = set(image_ids)
    rows: list[dict[str, Any]] = []
    for path in table_files(folder, table):
        if groups_with(path, table, keep):
            part = read_some(path, table, columns, keep)
            rows += [row for row in part.to_pylist() if row["image_id"] in wanted]
    return rows
