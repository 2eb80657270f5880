"""Which rows of a refine artifact are training labels, and their columns. No torch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pycocotools import mask as mask_api

from s4m_pipeline.artifacts.decision import Decision
from s4m_pipeline.artifacts.table_file import categories_of, read_file
from s4m_pipeline.artifacts.tables import read_table, table_files
from s4m_pipeline.data.formats.coco.segmentation import as_coco_rles, mask_areas
from s4m_pipeline.data.image_set import Category, check_same_categories
from s4m_pipeline.errors import ArtifactError
from s4m_pipeline.refinement.reasons import GATE, Reason

TAKEN = (Decision.REFINED, Decision.KEPT)
"""The decisions whose rows are labels."""
COLUMNS = [
    "image_id",
    "file_name",
    "height",
    "width",
    "category_id",
    "class_probs",
    "mask_rle",
    "decision",
    "score",
    "agreement",
]
UNCERTAIN_COLUMNS = ["reason_code", "teacher_mask_rle"]

LABELS = pa.schema(
    [
        ("image_id", pa.int64()),
        ("file_name", pa.string()),
        ("label", pa.large_list(pa.int32())),
        ("rle", pa.large_list(pa.large_binary())),
        ("box", pa.large_list(pa.int32())),
        ("quality", pa.large_list(pa.float64())),
        ("ignored", pa.large_list(pa.int8())),
        ("class_probs", pa.large_list(pa.float32())),
    ]
)
"""An image's labels in one row: per label its class's place, its mask's COCO compressed RLE, its
mask's box (x, y, width, height in pixels), score times agreement, and 1 where it is no label but
a region of doubt; then the class distributions in label order one after the other, none where one
is unknown."""


def label_batches(
    folder: Path, categories: Sequence[Category], ignore_score: float | None = None
) -> Iterator[pa.RecordBatch]:
    """Read the rows of a refine artifact that were refined or kept, a shard at a time.

    Args:
        folder: The artifact's folder.
        categories: The classes in label order; the artifact's may be in another order.
        ignore_score: Read uncertain rows as ignored ones, too: what was dropped for a score that
            is not below this, and what the gate dropped. None reads none.

    Yields:
        A batch of ``LABELS`` a shard: one row for each image with a label, the labels in the
        table's order.

    Raises:
        UsageError: Other categories.
        ArtifactError: A file is damaged or of another format version.
    """
    columns = COLUMNS if ignore_score is None else [*COLUMNS, *UNCERTAIN_COLUMNS]
    seen: set[int] = set()
    for path in table_files(folder, "refined"):
        table = read_file(path, "refined", columns, ahead=False)
        if not table.num_rows:
            continue
        own = [Category(int(c["id"]), str(c["name"])) for c in categories_of(table)]
        check_same_categories(categories, own, "the run", str(folder))
        batch = _labels_of(table.combine_chunks(), categories, own, ignore_score, path)
        ids = batch["image_id"].to_pylist()
        if not seen.isdisjoint(ids):
            raise ArtifactError(f"{path}: damaged (another file has rows of the same images)")
        seen.update(ids)
        yield batch


def set_aside(folder: Path) -> frozenset[int]:
    """Ids of the images that an artifact's stage could not process."""
    table: Any = read_table(folder, "quarantine", columns=["image_id"])
    return frozenset(int(value) for value in table["image_id"].to_pylist())


def _labels_of(
    table: pa.Table,
    categories: Sequence[Category],
    own: Sequence[Category],
    ignore_score: float | None,
    path: Path,
) -> pa.RecordBatch:
    """Turn a refined table into a batch of ``LABELS``."""
    ignored = _uncertain(table, ignore_score)
    rows = np.flatnonzero(ignored | _is_in(table["decision"], TAKEN))
    table, ignored = table.take(pa.array(rows)), ignored[rows]
    rles = _masks(table, ignored)
    boxes, areas = _boxes_areas(table, rles)
    kept = np.flatnonzero(areas > 0)  # an empty mask teaches nothing
    ids = table["image_id"].to_numpy()
    order = kept[np.argsort(ids[kept], kind="stable")]
    images, first = np.unique(ids[order], return_index=True)
    offsets = np.append(first, len(order)).astype(np.int64)
    place = {category.id: number for number, category in enumerate(categories)}
    label = np.array([place[key] for key in table["category_id"].to_pylist()], np.int32)
    double = [table[name].to_numpy().astype(np.float64) for name in ("score", "agreement")]
    quality = double[0] * double[1]
    listed = [
        pa.array(label[order]),
        pa.array([rles[row] for row in order], pa.large_binary()),
        pa.array(quality[order]),
        pa.array(ignored[order].astype(np.int8)),
    ]
    labels, masks, qualities, doubts = (
        pa.LargeListArray.from_arrays(pa.array(offsets), values) for values in listed
    )
    flat = pa.array(boxes[order].astype(np.int32).reshape(-1))
    box = pa.LargeListArray.from_arrays(pa.array(4 * offsets), flat)
    probs = _class_probs(table, order, offsets, _places(own, categories), path)
    names = table["file_name"].take(pa.array(order[first])).combine_chunks().cast(pa.string())
    columns = [pa.array(images), names, labels, masks, box, qualities, doubts, probs]
    return pa.RecordBatch.from_arrays(columns, schema=LABELS)


def _places(own: Sequence[Category], categories: Sequence[Category]) -> np.ndarray:
    """int64 (K,): where each class in label order stands in the artifact's order."""
    place = {category.id: number for number, category in enumerate(own)}
    return np.array([place[category.id] for category in categories], np.int64)


def _is_in(column: pa.ChunkedArray, values: Sequence[str]) -> np.ndarray:
    return np.asarray(pc.is_in(column, pa.array(values)).to_numpy(), bool)


def _uncertain(table: pa.Table, ignore_score: float | None) -> np.ndarray:
    """bool (N,): which rows were dropped, but may be an object all the same."""
    if ignore_score is None:
        return np.zeros(table.num_rows, bool)
    by_score = _is_in(table["reason_code"], [Reason.SCORE.value])
    by_gate = _is_in(table["reason_code"], [reason.value for reason in GATE])
    sure_enough = table["score"].to_numpy().astype(np.float64) >= ignore_score
    return _is_in(table["decision"], (Decision.DROPPED,)) & (by_gate | (by_score & sure_enough))


def _masks(table: pa.Table, ignored: np.ndarray) -> list[bytes]:
    """Each row's mask; of an uncertain one both the teacher's and the segmenter's pixels count."""
    rles: list[bytes] = table["mask_rle"].to_pylist()
    for row in np.flatnonzero(ignored):
        height, width = table["height"][row].as_py(), table["width"][row].as_py()
        both = [rles[row], table["teacher_mask_rle"][row].as_py()]
        rles[row] = bytes(mask_api.merge(as_coco_rles(both, height, width))["counts"])
    return rles


def _boxes_areas(table: pa.Table, rles: Sequence[bytes]) -> tuple[np.ndarray, np.ndarray]:
    """Boxes float64 (N, 4), x, y, width, height in pixels, and areas (N,) of the rows' masks."""
    if not rles:
        return np.zeros((0, 4)), np.zeros(0)
    sizes = zip(table["height"].to_pylist(), table["width"].to_pylist(), strict=True)
    coded = [
        {"size": list(size), "counts": counts} for size, counts in zip(sizes, rles, strict=True)
    ]
    return np.asarray(mask_api.toBbox(coded)), np.asarray(mask_areas(coded))


def _class_probs(
    table: pa.Table, rows: np.ndarray, offsets: np.ndarray, places: np.ndarray, path: Path
) -> pa.LargeListArray:
    """Class distributions of each image's rows in label order; none of an image that lacks one."""
    column = table["class_probs"].take(pa.array(rows)).combine_chunks()
    lengths = np.asarray(pc.fill_null(pc.list_value_length(column), 0))
    known = lengths > 0
    if np.any(lengths[known] != len(places)):
        raise ArtifactError(f"{path}: damaged (class_probs are not of {len(places)} classes)")
    values = np.asarray(column.flatten(), np.float32).reshape(-1, len(places))[:, places]
    counts = np.diff(offsets)
    missing = np.bincount(np.repeat(np.arange(len(counts)), counts)[~known], minlength=len(counts))
    whole = missing == 0
    starts = np.append(0, np.cumsum(np.where(whole, counts, 0))) * len(places)
    kept = np.repeat(whole, counts)[known]
    return pa.LargeListArray.from_arrays(
        pa.array(starts.astype(np.int64)), pa.array(values[kept].reshape(-1))
    )
