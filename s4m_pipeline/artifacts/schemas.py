"""The Arrow schemas of the Parquet tables that pass between stages.

Conventions are COCO's: ``bbox`` is x, y, width, height in pixels, masks are COCO's compressed RLE.
Every file carries the format version and the category list in its schema's metadata.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from s4m_pipeline.artifacts.fingerprint import FORMAT_VERSION

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


def schema_with_metadata(table: str, categories: Sequence[Mapping[str, Any]]) -> pa.Schema:
    """Schema of ``table`` with the format version, its own name and the categories in it."""
    return SCHEMAS[table].with_metadata(
        {
            "format_version": str(FORMAT_VERSION),
            "table": table,
            "categories": json.dumps(list(categories)),
        }
    )
