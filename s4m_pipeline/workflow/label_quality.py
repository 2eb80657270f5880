"""Label quality: the pseudo-labels held against the truth that training never saw."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa

from s4m_pipeline.artifacts.tables import read_table
from s4m_pipeline.config import LabelledSet
from s4m_pipeline.data.image_set import ImageSet, check_same_categories
from s4m_pipeline.engine.image_sets import read_labelled
from s4m_pipeline.engine.registry import check_round, stage_named
from s4m_pipeline.engine.run import Run
from s4m_pipeline.errors import UsageError
from s4m_pipeline.metrics.label_quality import label_quality

_SIZE = ["file_name", "height", "width"]
_COLUMNS = [
    *_SIZE,
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
        round_number: The round whose labels are judged, from 1.

    Returns:
        ``{"teacher": figures, "refined": figures}`` as ``data.label_quality`` makes them: the same
        instances, once with the teacher's masks and once with the final ones.

    Raises:
        UsageError: There is no such round or truth, or the truth numbers its classes otherwise,
            has none of the images, or has one in another size.
    """
    if annotations is None:
        raise UsageError("label quality needs --annotations: the COCO file with the true masks")
    check_round(round_number)
    folder = run.require(stage_named("refine", round_number))
    images = run.images.unlabelled
    section = run.config.data.unlabelled
    if section is None:
        raise UsageError("data.unlabelled is missing")
    everything = read_labelled(
        LabelledSet(images=section.images, annotations=annotations), str(annotations)
    )
    labelled = run.images.labelled.categories
    check_same_categories(labelled, everything.categories, "data.labelled", str(annotations))
    truth = _only(everything, {image.file_name for image in images.images})
    table = read_table(folder, "refined", _COLUMNS)
    _check_sizes(truth, table, annotations)
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


def _check_sizes(truth: ImageSet, table: pa.Table, annotations: Path) -> None:
    """Masks of other sizes cannot be compared."""
    sizes = {image.file_name: (image.height, image.width) for image in truth.images}
    for row in table.group_by(_SIZE).aggregate([]).to_pylist():
        size = (row["height"], row["width"])
        if sizes.get(row["file_name"], size) != size:
            height, width = sizes[row["file_name"]]
            raise UsageError(
                f"{annotations}: {row['file_name']} has {width} x {height} pixels, "
                f"its labels {row['width']} x {row['height']}"
            )


def _labels(
    table: pa.Table, column: str, ids: dict[str, int]
) -> dict[int, list[tuple[int, bytes, float]]]:
    labels: dict[int, list[tuple[int, bytes, float]]] = {}
    for row in table.to_pylist():
        if row["decision"] != "dropped" and row["file_name"] in ids:
            label = (row["category_id"], row[column], row["score"])
            labels.setdefault(ids[row["file_name"]], []).append(label)
    return labels
