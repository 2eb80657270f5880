"""What every table has to hold: checked when its rows are read, so that no reader has to.

A table that our own stages wrote never fails. What other tools wrote may: a height of 0 ends the
process inside pycocotools, and a score that is no number slips through every comparison.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from s4m_pipeline.artifacts.decision import Decision
from s4m_pipeline.artifacts.rle_checks import not_masks
from s4m_pipeline.artifacts.table_definitions import TABLES
from s4m_pipeline.artifacts.table_faults import arrow_faults, damaged
from s4m_pipeline.strict_json import read_json

MAY_BE_NULL = frozenset({"class_probs"})
"""Columns that may be without a value: the class distribution, where a model has none."""

_LARGE = 2.0**31
_SLACK = 1e-3
"""What rounding may add to a share."""
_RANGES: dict[str, tuple[float, float]] = {
    "image_id": (0, 2.0**63),
    "height": (1, _LARGE),
    "width": (1, _LARGE),
    "instance_id": (0, _LARGE),
    "score": (0, 1 + _SLACK),
    "area": (0, _LARGE),
    "class_probs": (0, 1 + _SLACK),
    "bbox": (0, _LARGE),
    "prompt_points": (-_LARGE, _LARGE),
    "soft_mask_box": (0, _LARGE),
    "soft_mask_stride": (1e-6, _LARGE),
    "views_seen": (1, 255),
    "candidate_ious": (-_LARGE, _LARGE),
    "candidate": (-1, _LARGE),
    "agreement": (0, 1 + _SLACK),
    "area_ratio": (0, _LARGE),
    "grid": (1, _LARGE),
    "points": (-_LARGE, _LARGE),
    "scale": (-_LARGE, _LARGE),
    "offset": (-_LARGE, _LARGE),
    "attempts": (0, _LARGE),
    "iou_before": (0, 1 + _SLACK),
    "iou_after": (0, 1 + _SLACK),
}
"""Least and greatest number of a column, or of each number in its lists."""

Row = Mapping[str, Any]
"""The columns of N rows by their names."""
Rule = Callable[[Row], np.ndarray]
"""Which of the rows are wrong: bool (N,)."""


def check_schema_of(path: Path, table: str, schema: pa.Schema) -> None:
    """Refuse columns of other types, and a list of classes that cannot be read.

    Args:
        path: The table's file, for the message.
        table: A name in ``table_definitions.TABLES``.
        schema: The file's, which has all columns but those that it may lack.

    Raises:
        ArtifactError: With what is wrong.
    """
    for field in TABLES[table].schema:
        if field.name not in schema.names:
            continue  # it has a value for files without it
        found = schema.field(field.name).type
        if found != field.type:
            raise damaged(path, f"{field.name} is {found}, not {field.type}")
    _class_ids(path, schema)


def _class_ids(path: Path, schema: pa.Schema) -> list[int]:
    """The ids of a table's classes (ArtifactError where these are no list of ids and names)."""
    try:
        classes = read_json((schema.metadata or {}).get(b"categories", b"[]"))
        ids = [entry["id"] for entry in classes if isinstance(entry["name"], str)]
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise damaged(path, "its classes are no list of ids and names") from error
    if len(ids) < len(classes) or any(type(key) is not int or abs(key) > _LARGE for key in ids):
        raise damaged(path, "its classes are no list of ids and names")
    if len(set(ids)) < len(ids):
        raise damaged(path, "two of its classes have the same id")
    return ids


def check_rows(path: Path, rows: pa.Table | pa.RecordBatch) -> None:
    """Refuse rows that no stage of ours writes.

    Args:
        path: The table's file, for the message.
        rows: Some columns of it, and its classes in their schema's metadata.

    Raises:
        ArtifactError: A value is missing, no number, out of its range, or of another length than
            others of its row.
    """
    classes = _class_ids(path, rows.schema)
    if not rows.num_rows:
        return
    with arrow_faults(path):
        rows.validate(full=True)  # texts that are none, lists that reach outside their values
        columns = {name: _joined(rows.column(name)) for name in rows.schema.names}
    for name, column in columns.items():
        _refuse(path, f"{name} has no value", _nulls(name, column))
        if name in _RANGES:
            _refuse(path, f"{name} is out of its range", _out_of_range(name, column))
    for needs, what, rule in _rules(pa.array(classes, pa.int64()), len(classes)):
        if all(name in columns for name in needs):
            _refuse(path, what, rule(columns))


def _refuse(path: Path, what: str, bad: np.ndarray) -> None:
    if bad.any():
        count = int(bad.sum())
        where = f"row {int(np.flatnonzero(bad)[0])}" + (f" and {count - 1} more" * (count > 1))
        raise damaged(path, f"{where}: {what}")


def _joined(column: Any) -> Any:
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks() if column.num_chunks != 1 else column.chunk(0)
    return column.dictionary_decode() if isinstance(column, pa.DictionaryArray) else column


def _is_list(column: Any) -> bool:
    return pa.types.is_list(column.type) or pa.types.is_fixed_size_list(column.type)


def _nulls(name: str, column: Any) -> np.ndarray:
    """bool (N,): which rows have no value, or a list with one that is missing."""
    bad = np.zeros(len(column), bool)
    if column.null_count and name not in MAY_BE_NULL:
        bad |= np.asarray(column.is_null())
    if _is_list(column) and column.flatten().null_count:
        bad[_row_of_items(column)[np.asarray(column.flatten().is_null())]] = True
    return bad


def _lengths(column: Any) -> np.ndarray:
    """int64 (N,): how long each list is; 0 where there is none."""
    return np.asarray(pc.fill_null(pc.list_value_length(column), 0)).astype(np.int64)


def _sizes(column: Any) -> np.ndarray:
    """int64 (N,): bytes of each value."""
    return np.asarray(pc.binary_length(column)).astype(np.int64)


def _row_of_items(column: Any) -> np.ndarray:
    return np.repeat(np.arange(len(column)), _lengths(column))


def _numbers(column: Any) -> np.ndarray:
    return np.asarray(column.to_numpy(zero_copy_only=False))


def _out_of_range(name: str, column: Any) -> np.ndarray:
    low, high = _RANGES[name]
    values = _numbers(column.flatten() if _is_list(column) else column)
    wrong = ~((values >= low) & (values <= high))  # so that what is no number is wrong
    if name == "bbox":  # a corner may lie outside, by rounding
        wrong &= np.arange(len(values)) % 4 >= 2
        wrong |= ~np.isfinite(values)
    if not _is_list(column):
        return wrong
    bad = np.zeros(len(column), bool)
    bad[_row_of_items(column)[wrong]] = True
    return bad


def _rules(known: pa.Array, classes: int) -> Iterator[tuple[tuple[str, ...], str, Rule]]:
    """The columns that each rule needs, what it is that is wrong, and which rows are."""
    known_class = partial(_is_other, "category_id", known)
    what = "is of no class of the table" if classes else "is there, but no list of classes"
    yield ("category_id",), f"category_id {what}", known_class
    lengths = f"class_probs are not of {classes} classes"
    yield ("class_probs",), lengths, partial(_other_length, "class_probs", (0, classes))
    decisions = f"decision is none of {', '.join(Decision)}"
    yield ("decision",), decisions, partial(_is_other, "decision", pa.array([*Decision]))
    for name in ("prompt_points", "points"):
        yield (name,), f"{name} are no pairs", partial(_odd, name)
    soft = ("soft_mask", "soft_mask_box")
    yield soft, "soft_mask is not as large as soft_mask_box", _other_soft_mask
    maps = ("points", "grid", "similarity")
    yield maps, "similarity has not grid x grid values a point", _other_maps
    for name in ("scale", "offset"):
        yield ("points", name), f"{name} has not a value a point", partial(_not_a_point, name)
    for name in ("mask_rle", "teacher_mask_rle"):
        what = f"{name} is no mask of height x width pixels"
        yield (name,), what, partial(_other_pixels, name)


def _is_other(name: str, known: pa.Array, row: Row) -> np.ndarray:
    return ~np.asarray(pc.is_in(row[name].cast(known.type), known))


def _other_length(name: str, lengths: tuple[int, ...], row: Row) -> np.ndarray:
    return ~np.isin(_lengths(row[name]), lengths)


def _odd(name: str, row: Row) -> np.ndarray:
    return _lengths(row[name]) % 2 == 1


def _other_soft_mask(row: Row) -> np.ndarray:
    sides = _numbers(row["soft_mask_box"].flatten()).reshape(-1, 4)[:, 2:].astype(np.int64)
    return np.asarray(_sizes(row["soft_mask"]) != sides[:, 0] * sides[:, 1])


def _other_maps(row: Row) -> np.ndarray:
    cells = _numbers(row["grid"]).astype(np.int64) ** 2
    return np.asarray(_sizes(row["similarity"]) != _lengths(row["points"]) // 2 * cells)


def _not_a_point(name: str, row: Row) -> np.ndarray:
    return _lengths(row[name]) != _lengths(row["points"]) // 2


def _other_pixels(name: str, row: Row) -> np.ndarray:
    if not {"height", "width"} <= row.keys():
        return not_masks(row[name])
    height, width = (_numbers(row[side]).astype(np.int64) for side in ("height", "width"))
    return not_masks(row[name], (height * width).tolist())
