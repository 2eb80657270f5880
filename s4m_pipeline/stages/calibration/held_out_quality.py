"""Labels of the validation images compared with the truth.

One figure sums it up: the summed IoU of the matched pairs, divided by the mean of the numbers of
labels and true instances. It is 1 where every instance has exactly one perfect mask, and falls with
rough masks, false labels and missed instances alike.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from s4m_pipeline.artifacts.tables import read_table
from s4m_pipeline.config import RunConfig
from s4m_pipeline.engine.image_sources import VALIDATION
from s4m_pipeline.engine.run import Run
from s4m_pipeline.labels.choose import choose_thresholds
from s4m_pipeline.labels.rule import drop_cause
from s4m_pipeline.labels.thresholds import Thresholds
from s4m_pipeline.metrics.label_quality import label_quality
from s4m_pipeline.metrics.matching import Label


def held_out_quality(run: Run, folder: Path, images: int) -> dict[str, Any]:
    """Figures for the manifest: ``quality`` and ``labels``.

    Args:
        run: The run.
        folder: The artifact, with its predictions.
        images: How many images were predicted.
    """
    thresholds = choose_thresholds(run, folder, images)
    truth, labels = VALIDATION.images(run), labels_above(folder, thresholds, run.config)
    aside = set(
        read_table(folder, "quarantine", ["image_id"], unfinished=True)["image_id"].to_pylist()
    )
    figures = label_quality(truth.without(aside), labels)
    return {"quality": quality(figures), "labels": figures}


def labels_above(folder: Path, thresholds: Thresholds, config: RunConfig) -> dict[int, list[Label]]:
    """The predictions of an artifact that become labels, by image id."""
    columns = ["image_id", "category_id", "score", "mask_rle", "soft_mask"]
    labels: dict[int, list[Label]] = {}
    for batch in read_table(folder, "predictions", columns, unfinished=True).to_batches(
        max_chunksize=1024
    ):
        for row in batch.to_pylist():
            score = thresholds.scores[row["category_id"]]
            if not drop_cause(row, score, config.pseudo_label.min_area):
                label = Label(row["category_id"], row["mask_rle"], row["score"])
                labels.setdefault(row["image_id"], []).append(label)
    return labels


def quality(figures: Mapping[str, Any]) -> float:
    """The summed IoU of the matched pairs, over the mean number of labels and true instances.

    Args:
        figures: Those of ``label_quality``.

    Returns:
        0 to 1; 0 where there are neither labels nor true instances.
    """
    both = (figures["labels"] + figures["truth"]) / 2
    return figures["matched"] * (figures["mean_iou"] or 0.0) / both if both else 0.0
