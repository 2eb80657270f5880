"""Label quality: pseudo-labels compared with the true masks, which training never sees."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa

from s4m_pipeline.artifacts.decision import Decision
from s4m_pipeline.artifacts.tables import read_table
from s4m_pipeline.config_data import LabelledSet
from s4m_pipeline.data.image_set import ImageSet, check_same_categories, require_instances
from s4m_pipeline.engine.image_sets import read_labelled
from s4m_pipeline.engine.registry import check_round, stage_named
from s4m_pipeline.engine.run import Run
from s4m_pipeline.errors import UsageError
from s4m_pipeline.metrics.label_quality import label_quality
from s4m_pipeline.metrics.matching import Label
from s4m_pipeline.stages.legs import check_refresh

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
    run: Run, annotations: Path | None, round_number: int = 1, refresh: int = 0
) -> dict[str, dict[str, Any]]:
    """Compare a run's labels with the truth, before and after refinement.

    Args:
        run: The run, with its ``refine`` artifact.
        annotations: COCO file with the masks of the unlabelled images; other images are ignored.
        round_number: The round whose labels are judged, from 1.
        refresh: The refresh in it; 0 for the round's first labels.

    Returns:
        ``{"teacher": figures, "refined": figures}``, both of the same instances: with the teacher's
        masks and with the final ones. ``metrics.label_quality`` describes the figures.

    Raises:
        UsageError: There is no such round, refresh or truth, or the truth has other classes, none
            of the images, or one in another size.
    """
    if annotations is None:
        raise UsageError("label quality needs --annotations: the COCO file with the true masks")
    check_round(round_number)
    check_refresh(run.config, refresh)
    refine = stage_named("refine", round_number, refresh=refresh)
    folder = run.require(refine, tables=("refined",))
    images = run.images.unlabelled
    section = run.config.data.unlabelled
    if section is None:
        raise UsageError("data.unlabelled is missing")
    whole_truth = read_labelled(
        LabelledSet(images=section.images, annotations=annotations), str(annotations)
    )
    labelled = run.images.labelled.categories
    check_same_categories(labelled, whole_truth.categories, "data.labelled", str(annotations))
    truth = _of_files(whole_truth, {image.file_name for image in images.images})
    table = read_table(folder, "refined", _COLUMNS)
    _check_sizes(truth, table, annotations)
    ids = truth.id_of_file()
    return {
        name: label_quality(truth, _labels(table, column, ids))
        for name, column in (("teacher", "teacher_mask_rle"), ("refined", "mask_rle"))
    }


def _of_files(truth: ImageSet, names: set[str]) -> ImageSet:
    part = truth.only([image.id for image in truth.images if image.file_name in names])
    if not part.images:
        raise UsageError("the truth has none of the unlabelled images (compared by file name)")
    require_instances(part, "the truth of the unlabelled images")
    return part


def _check_sizes(truth: ImageSet, table: pa.Table, annotations: Path) -> None:
    """Refuse a truth whose images have other sizes: its masks cannot be compared."""
    sizes = {image.file_name: (image.height, image.width) for image in truth.images}
    for row in table.group_by(_SIZE).aggregate([]).to_pylist():
        size = (row["height"], row["width"])
        if sizes.get(row["file_name"], size) != size:
            height, width = sizes[row["file_name"]]
            raise UsageError(
                f"{annotations}: {row['file_name']} has {width} x {height} pixels, "
                f"its labels {row['width']} x {row['height']}"
            )


def _labels(table: pa.Table, column: str, ids: dict[str, int]) -> dict[int, list[Label]]:
    labels: dict[int, list[Label]] = {}
    for row in table.to_pylist():
        if row["decision"] != Decision.DROPPED and row["file_name"] in ids:
            label = Label(row["category_id"], row[column], row["score"])
            labels.setdefault(ids[row["file_name"]], []).append(label)
    return labels
