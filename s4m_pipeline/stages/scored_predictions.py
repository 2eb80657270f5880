"""Columns of an artifact's predictions that thresholds are chosen by, and which are true."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from s4m_pipeline.artifacts.schemas import schema_with_metadata
from s4m_pipeline.artifacts.tables import check_schema, table_files
from s4m_pipeline.data.thresholds import IGNORED, TRUE, match_flags
from s4m_pipeline.errors import ArtifactError
from s4m_pipeline.stages.base import Run
from s4m_pipeline.stages.refine_rows import mask_cells

Columns = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]
"""Image id, category id, score and mask_rle of predictions."""


def judged_predictions(
    run: Run, folder: Path, floor: float
) -> tuple[dict[int, np.ndarray], dict[int, np.ndarray]]:
    """Scores of the cross-fitted predictions, and which of them are true, by category id."""
    labelled, min_area = run.images.labelled, run.config.pseudo_label.min_area
    image, category, score, rle = scored_predictions(folder, floor, min_area)
    flags = np.full(len(score), IGNORED)
    order = np.argsort(image, kind="stable")
    ids, starts = np.unique(image[order], return_index=True)
    places = dict(zip(ids.tolist(), np.split(order, starts[1:]), strict=True))
    for record in labelled.images:
        own = places.get(record.id, np.zeros(0, np.int64))
        labels = [(int(category[n]), rle[n], float(score[n])) for n in own]
        truth = labelled.instances.get(record.id, [])
        flags[own] = match_flags(labels, truth, (record.height, record.width))
    kept = flags != IGNORED
    return (
        {c.id: score[kept & (category == c.id)] for c in labelled.categories},
        {c.id: flags[kept & (category == c.id)] == TRUE for c in labelled.categories},
    )


def scored_predictions(folder: Path, floor: float, min_area: float) -> Columns:
    """Predictions above a score whose mask is large enough; read once while the files are the same.

    Args:
        folder: The artifact.
        floor: The score that predictions must be above.
        min_area: ``pseudo_label.min_area``.
    """
    files = table_files(folder, "predictions")
    stamps = tuple((str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in files)
    return _columns(stamps, floor, min_area)


@lru_cache(maxsize=4)
def _columns(files: tuple[tuple[str, int, int], ...], floor: float, min_area: float) -> Columns:
    """Columns of some files, which are given by path, size and time."""
    names = ["image_id", "category_id", "score", "mask_rle", "soft_mask"]
    parts = [_as_columns(schema_with_metadata("predictions", []).empty_table(), min_area)]
    for path in (Path(name) for name, _, _ in files):
        check_schema(path, "predictions")
        try:
            table = pq.read_table(
                path, columns=names, filters=[("score", ">", floor)], partitioning=None
            )
        except (OSError, pa.ArrowException) as error:
            raise ArtifactError(f"{path}: damaged ({str(error).splitlines()[0]})") from error
        parts.append(_as_columns(table, min_area))
    image, category, score, rle = (np.concatenate(part) for part in zip(*parts, strict=True))
    return image, category, score, rle


def _as_columns(table: pa.Table, min_area: float) -> Columns:
    large = np.array([mask_cells(m) > min_area for m in table["soft_mask"].to_pylist()], bool)
    rle = np.array([*table["mask_rle"].to_pylist(), None], dtype=object)[:-1]
    return (
        table["image_id"].to_numpy()[large],
        table["category_id"].to_numpy()[large],
        table["score"].to_numpy().astype(np.float64)[large],
        rle[large],
    )
