"""Label quality: the pseudo-labels held against the truth that training never saw."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa

from s4m_pipeline.artifacts.tables import read_table
from s4m_pipeline.config import LabelledSet
from s4m_pipeline.data.image_set import ImageSet
from s4m_pipeline.errors import UsageError
from s4m_pipeline.stages.base import Run
from s4m_pipeline.stages.image_sets import read_labelled
from s4m_pipeline.stages.refine import Refine

_COLUMNS = [
    "file_name",
    "category_id",
    "score",
    "mask_rle",
    "teacher_mask_rle",
    "decision",
]


def label_quality_of_run(
    run: Run, annotations: Path | None, round_number: int = 1
) -> dict[str, dict[str, Any]]:
    """Compare a run's labels with the truth, before and after refinement.

    Args:
        run: The run, its ``refine`` artifact made.
        annotations: COCO file with the masks of the unlabelled images (others in it are ignored).
        round_number: The round whose labels are judged.

    Returns:
        ``{"teacher": figures, "refined": figures}`` as ``data.label_quality`` makes them: the same
        instances, once with the teacher's masks and once with the final ones.
    """
    from s4m_pipeline.data.label_quality import label_quality

    if annotations is None:
        raise UsageError("--labels needs --annotations: the COCO file with the true masks")
    folder = run.require(Refine(round_number))
    images = run.images.unlabelled
    section = run.config.data.unlabelled
    if section is None:
        raise UsageError("data.unlabelled is missing")
    everything = read_labelled(
        LabelledSet(images=section.images, annotations=annotations), str(annotations)
    )
    truth = _only(everything, {image.file_name for image in images.images})
    table = read_table(folder, "refined", _COLUMNS)
    ids = truth.id_of_file()
    return {
        name: label_quality(truth, _labels(table, column, ids))
        for name, column in (("teacher", "teacher_mask_rle"), ("refined", "mask_rle"))
    }


def _only(truth: ImageSet, names: set[str]) -> ImageSet:
    images = [image for image in truth.images if image.file_name in names]
    if not images:
        raise UsageError("the truth has none of the unlabelled images (compared by file name)")
    ids = {image.id for image in images}
    instances = {key: value for key, value in truth.instances.items() if key in ids}
    return ImageSet(truth.categories, images, instances)


def _labels(
    table: pa.Table, column: str, ids: dict[str, int]
) -> dict[int, list[tuple[int, bytes, float]]]:
    labels: dict[int, list[tuple[int, bytes, float]]] = {}
    for row in table.to_pylist():
        if row["decision"] != "dropped" and row["file_name"] in ids:
            label = (row["category_id"], row[column], row["score"])
            labels.setdefault(ids[row["file_name"]], []).append(label)
    return labels
