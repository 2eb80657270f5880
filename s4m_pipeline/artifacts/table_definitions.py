"""The Parquet tables that pass between stages: one definition each, in ``TABLES``.

Conventions are COCO's: ``bbox`` is x, y, width, height in pixels, masks are COCO's compressed RLE.
Every file carries the format version and the category list in its schema's metadata.

A column that several tables share is defined once, as a constant or in a group of columns. A new
column is one line in its group, a new table one entry in ``TABLES``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from s4m_pipeline.artifacts.fingerprint import FORMAT_VERSION

_FLOATS = pa.list_(pa.float32())


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table.

    Attributes:
        name: Its name.
        type: Its Arrow type.
        dictionary: Store each value once and refer to it. This makes a column of recurring values
            smaller; for any other it is a second page to read.
        statistics: Store the smallest and largest value of each row group. For a mask's bytes they
            are of no use.
        default: The value of rows that do not say, and of files that were written before there was
            such a column; None where every row says. With one, a column is added without another
            format version.
    """

    name: str
    type: pa.DataType
    dictionary: bool = False
    statistics: bool = True
    default: int | None = None


@dataclass(frozen=True, slots=True)
class Table:
    """A table that stages write and read.

    Attributes:
        name: Its name, and its folder's name in an artifact.
        columns: Its columns, in the order of the file.
        row_group: Rows in a row group. Each group costs every column a seek and a page.
        compression_level: Zstandard's. Level 9 makes files a tenth smaller than level 1 and still
            writes them far faster than masks are made.
    """

    name: str
    columns: tuple[Column, ...]
    row_group: int = 8192
    compression_level: int = 9

    @property
    def schema(self) -> pa.Schema:
        """The Arrow schema, without metadata."""
        return pa.schema([(column.name, column.type) for column in self.columns])

    def schema_with(self, categories: Sequence[Mapping[str, Any]]) -> pa.Schema:
        """The schema with the format version, the table's name and the categories as metadata."""
        return self.schema.with_metadata(
            {
                "format_version": str(FORMAT_VERSION),
                "table": self.name,
                "categories": json.dumps(list(categories)),
            }
        )

    @property
    def defaults(self) -> dict[str, int]:
        """The values of columns that a row, or a whole file, may lack."""
        return {c.name: c.default for c in self.columns if c.default is not None}

    @property
    def with_dictionary(self) -> list[str]:
        """Names of the columns that are stored with a dictionary."""
        return [column.name for column in self.columns if column.dictionary]

    @property
    def with_statistics(self) -> list[str]:
        """Names of the columns whose range each row group stores."""
        return [column.name for column in self.columns if column.statistics]


_IMAGE_ID = Column("image_id", pa.int64())
_FILE_NAME = Column("file_name", pa.string(), dictionary=True)
_INSTANCE_ID = Column("instance_id", pa.int32(), dictionary=True)
_CATEGORY_ID = Column("category_id", pa.int32(), dictionary=True)
_SCORE = Column("score", pa.float32())
_AREA = Column("area", pa.int32())
_DECISION = Column("decision", pa.string(), dictionary=True)  # a value of `decision.Decision`

_IMAGE = (
    _IMAGE_ID,
    _FILE_NAME,
    Column("height", pa.int32(), dictionary=True),
    Column("width", pa.int32(), dictionary=True),
)
_MASK = (
    Column("bbox", pa.list_(pa.float32(), 4)),
    _AREA,
    Column("mask_rle", pa.binary(), statistics=False),
)
_PREDICTION = (
    *_IMAGE,
    _INSTANCE_ID,
    _CATEGORY_ID,
    _SCORE,
    Column("class_probs", _FLOATS),
    *_MASK,
    Column("prompt_points", _FLOATS),
    Column("soft_mask", pa.binary(), statistics=False),
    Column("soft_mask_box", pa.list_(pa.int32(), 4)),
    Column("soft_mask_stride", pa.float32(), dictionary=True),
    Column("views_seen", pa.uint8(), dictionary=True, default=1),
)
_REFINEMENT = (
    Column("candidate_ious", _FLOATS),
    Column("candidate", pa.int8(), dictionary=True),
    Column("agreement", pa.float32()),
    Column("area_ratio", pa.float32()),
    _DECISION,
    Column("reason_code", pa.string(), dictionary=True),
    Column("reason", pa.string(), dictionary=True),
)
"""What refinement tells about a mask: columns of ``refined`` and ``segmented``."""

PREDICTIONS = Table("predictions", _PREDICTION)
REFINED = Table(
    "refined",
    (*_PREDICTION, Column("teacher_mask_rle", pa.binary(), statistics=False), *_REFINEMENT),
)
SEGMENTED = Table("segmented", (_IMAGE_ID, _INSTANCE_ID, *_MASK, *_REFINEMENT))
STRUCTURE = Table(
    "structure",
    (
        *_IMAGE,
        Column("grid", pa.int16(), dictionary=True),
        Column("points", _FLOATS),
        Column("similarity", pa.binary(), statistics=False),
        Column("scale", _FLOATS),
        Column("offset", _FLOATS),
    ),
    row_group=1,  # a row is up to a megabyte and is read alone
    compression_level=1,  # a higher level takes ten times as long for it
)
QUARANTINE = Table(
    "quarantine",
    (
        _IMAGE_ID,
        _FILE_NAME,
        Column("stage", pa.string(), dictionary=True),
        Column("error", pa.string(), dictionary=True),
        Column("attempts", pa.int32(), dictionary=True),
    ),
)
CALIBRATION = Table(
    "calibration",
    (
        _IMAGE_ID,
        _INSTANCE_ID,
        _CATEGORY_ID,
        _SCORE,
        _AREA,
        Column("policy", pa.string(), dictionary=True),
        _DECISION,
        Column("iou_before", pa.float32()),
        Column("iou_after", pa.float32()),
    ),
)

TABLES: dict[str, Table] = {
    table.name: table
    for table in (PREDICTIONS, REFINED, STRUCTURE, QUARANTINE, SEGMENTED, CALIBRATION)
}
"""Every table by its name. ``write_table`` and the readers of ``artifacts.tables`` look here."""
