"""Scores of an artifact's predictions, which thresholds are chosen by, and which are true."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import pyarrow as pa

from s4m_pipeline.artifacts.file_facts import FileState, state_of
from s4m_pipeline.artifacts.table_file import read_some
from s4m_pipeline.artifacts.tables import table_files
from s4m_pipeline.data.image_set import ImageSet
from s4m_pipeline.engine.run import Run
from s4m_pipeline.labels.rule import mask_cells
from s4m_pipeline.metrics.matching import IGNORED, TRUE, Label, match_labels, overlaps


def judged_predictions(
    run: Run, folder: Path, floor: float
) -> tuple[dict[int, np.ndarray], dict[int, np.ndarray]]:
    """Scores of the cross-fitted predictions, and which of them are true, by category id.

    Shards are judged one after the other, so that the masks of a single one are in memory. The
    predictions of an image are in one shard.

    Args:
        run: The run, for its labelled images.
        folder: The ``cross-fit`` artifact.
        floor: The score that predictions must be above.

    Returns:
        By category id, float64 (N,) scores and bool (N,) whether each matches a true instance.
    """
    labelled, min_area = run.images.labelled, run.config.pseudo_label.min_area
    categories, scores = [np.zeros(0, np.int64)], [np.zeros(0)]
    flags = [np.zeros(0, np.int64)]
    for path in table_files(folder, "predictions"):
        table = _large(path, ["image_id", "category_id", "score", "mask_rle"], floor, min_area)
        flags.append(_flags(table, labelled))
        categories.append(table["category_id"].to_numpy())
        scores.append(table["score"].to_numpy().astype(np.float64))
    category, score, flag = (np.concatenate(parts) for parts in (categories, scores, flags))
    kept = flag != IGNORED
    return (
        {c.id: score[kept & (category == c.id)] for c in labelled.categories},
        {c.id: flag[kept & (category == c.id)] == TRUE for c in labelled.categories},
    )


def _flags(table: pa.Table, labelled: ImageSet) -> np.ndarray:
    """Which predictions are true: int64 (N,) of ``match_labels``' values."""
    image, category = table["image_id"].to_numpy(), table["category_id"].to_numpy()
    score, rle = table["score"].to_numpy().astype(np.float64), table["mask_rle"].to_pylist()
    flags = np.full(len(image), IGNORED)
    order = np.argsort(image, kind="stable")
    ids, starts = np.unique(image[order], return_index=True)
    records = {record.id: record for record in labelled.images}
    # the part before the first start is empty; without predictions it is the only one
    for key, own in zip(ids.tolist(), np.split(order, starts)[1:], strict=True):
        record = records.get(key)
        if record is not None:
            labels = [Label(int(category[n]), rle[n], float(score[n])) for n in own]
            truth = labelled.instances.get(key, [])
            ious = overlaps(labels, truth, (record.height, record.width))
            flags[own] = match_labels(labels, truth, ious).flags
    return flags


def prediction_scores(folder: Path, floor: float, min_area: float) -> tuple[np.ndarray, np.ndarray]:
    """Predictions above a score with a mask that is large enough; read once for each file state.

    Args:
        folder: The artifact.
        floor: The score that predictions must be above.
        min_area: ``pseudo_label.min_area``.

    Returns:
        Category ids and scores, (N,) each.
    """
    files = table_files(folder, "predictions", unfinished=True)  # held-out reads its own
    return _scores(tuple((path, state_of(path)) for path in files), floor, min_area)


@lru_cache(maxsize=4)
def _scores(
    files: tuple[tuple[Path, FileState], ...], floor: float, min_area: float
) -> tuple[np.ndarray, np.ndarray]:
    """Category ids and scores of some files, each with its state."""
    categories, scores = [np.zeros(0, np.int32)], [np.zeros(0)]
    for path, _ in files:
        table = _large(path, ["category_id", "score"], floor, min_area)
        categories.append(table["category_id"].to_numpy())
        scores.append(table["score"].to_numpy().astype(np.float64))
    return np.concatenate(categories), np.concatenate(scores)


def _large(path: Path, columns: Sequence[str], floor: float, min_area: float) -> pa.Table:
    """Columns of a file's predictions that are above a score and large enough.

    Raises:
        ArtifactError: The file is damaged or of another format version.
    """
    table = read_some(path, "predictions", [*columns, "soft_mask"], [("score", ">", floor)])
    large = [mask_cells(mask) > min_area for mask in table["soft_mask"].to_pylist()]
    return table.select(list(columns)).filter(pa.array(large, pa.bool_()))
