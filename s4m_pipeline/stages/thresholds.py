"""A run's score thresholds per class: which predictions become labels. Needs no GPU.

``fixed`` is one score for all. ``rate`` and ``precision`` look at scores alone (and, for
``precision``, at the cross-fitted predictions of the labelled images); neither goes below
``refine.min_score``, down to which predictions are refined.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from s4m_pipeline.artifacts.tables import check_schema, schema_with_metadata, table_files
from s4m_pipeline.config import RunConfig
from s4m_pipeline.data.thresholds import (
    IGNORED,
    TRUE,
    Thresholds,
    fixed_thresholds,
    match_flags,
    precision_thresholds,
    rate_thresholds,
)
from s4m_pipeline.errors import ArtifactError
from s4m_pipeline.stages.base import Run, Stage
from s4m_pipeline.stages.cross_fit import CrossFit
from s4m_pipeline.stages.refine_rows import mask_cells

Columns = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]
"""Image id, category id, score and mask_rle of predictions."""


def threshold_settings(config: RunConfig) -> dict[str, Any]:
    """The settings that decide the thresholds, for a fingerprint."""
    section = config.pseudo_label
    if section.thresholds == "fixed":
        return {"score": section.score}
    if section.thresholds == "rate":
        return {"thresholds": "rate"}
    return {"thresholds": "precision", "precision": section.precision}


def threshold_sources(run: Run) -> dict[str, str]:
    """The input files that decide the thresholds."""
    if run.config.pseudo_label.thresholds == "fixed":
        return {}
    return {"labelled": run.images.labelled_digest()}


def threshold_upstream(config: RunConfig) -> dict[str, Stage]:
    """The input artifacts, beside the predictions themselves, that decide the thresholds."""
    return {"cross-fit": CrossFit()} if config.pseudo_label.thresholds == "precision" else {}


def choose_thresholds(run: Run, predictions: Path, images: int) -> Thresholds:
    """The thresholds that a run's configuration asks for.

    Args:
        run: The run; for ``precision`` its ``cross-fit`` artifact is made.
        predictions: Folder of the artifact whose predictions are to become labels.
        images: How many images were predicted, those without any prediction included.
    """
    section, labelled = run.config.pseudo_label, run.images.labelled
    categories = [category.id for category in labelled.categories]
    if section.thresholds == "fixed":
        return fixed_thresholds(categories, section.score)
    floor = run.config.refine.min_score
    if section.thresholds == "precision":
        scores, true = _judged(run, run.require(CrossFit()), floor)
        return precision_thresholds(scores, true, categories, section.precision, floor)
    _, category, score, _ = _read(predictions, floor, section.min_area)
    scores = {key: score[category == key] for key in categories}
    return rate_thresholds(scores, images, labelled_counts(run), len(labelled.images), floor)


def labelled_counts(run: Run) -> dict[int, int]:
    """Labelled instances, crowds left out, by category id."""
    labelled = run.images.labelled
    counts = {category.id: 0 for category in labelled.categories}
    for found in labelled.instances.values():
        for instance in found:
            counts[instance.category_id] += not instance.iscrowd
    return counts


def thresholds_as_json(run: Run, chosen: Thresholds) -> dict[str, Any]:
    """Thresholds for a manifest: how they were set, scores by class name, pooled classes."""
    names = {category.id: category.name for category in run.images.labelled.categories}
    return {
        "how": run.config.pseudo_label.thresholds,
        "scores": {names[key]: score for key, score in chosen.scores.items()},
        "pooled": [names[key] for key in chosen.pooled],
    }


def warn_unreached(run: Run, chosen: Thresholds) -> None:
    """Name the classes for which no threshold reaches the precision asked for."""
    section = run.config.pseudo_label
    if section.thresholds != "precision":
        return
    named = [c.name for c in run.images.labelled.categories if chosen.scores[c.id] >= 1]
    if named:
        run.reporter.warn(
            f"no score reaches pseudo_label.precision {section.precision:g} on the labelled "
            f"images for {', '.join(named)}: no labels of them"
        )


def _judged(
    run: Run, folder: Path, floor: float
) -> tuple[dict[int, np.ndarray], dict[int, np.ndarray]]:
    """Scores of the cross-fitted predictions, and which of them are true, by category id."""
    labelled, min_area = run.images.labelled, run.config.pseudo_label.min_area
    image, category, score, rle = _read(folder, floor, min_area)
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


def _read(folder: Path, floor: float, min_area: float) -> Columns:
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
    import pyarrow.parquet as pq  # `s4m status` does without

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
