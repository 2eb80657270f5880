"""Stage ``held-out``: how good the labels of a round's model are, on the validation images.

The model predicts the validation images as it would predict unlabelled ones, and what is above the
run's thresholds is held against the true masks. One figure sums it up: the IoU of the matched pairs
over the mean of the numbers of labels and true instances, which is 1 where every instance has
exactly one perfect mask, and falls with rough masks, false labels and missed instances alike.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from s4m_pipeline.artifacts.tables import read_table
from s4m_pipeline.config import RunConfig
from s4m_pipeline.data.image_set import ImageRecord, ImageSet
from s4m_pipeline.engine.registry import model_of_round
from s4m_pipeline.engine.run import Run
from s4m_pipeline.engine.stage import Outcome, Stage
from s4m_pipeline.errors import UsageError
from s4m_pipeline.labels.choose import (
    choose_thresholds,
    threshold_settings,
    threshold_sources,
    threshold_upstream,
)
from s4m_pipeline.labels.rule import drop_cause
from s4m_pipeline.labels.thresholds import Thresholds
from s4m_pipeline.metrics.label_quality import Label, label_quality
from s4m_pipeline.stages.pseudo_label import PseudoLabel


class HeldOut(PseudoLabel):
    """Label quality of the model that stands before a round: of the teacher in round 1."""

    name: ClassVar[str] = "held-out"

    @property
    def command(self) -> str:
        """Round r, of at least two, ends with measuring its student, who stands before r + 1."""
        return f"run --rounds {max(2, self.round - 1)}"

    @property
    def made_alone(self) -> bool:
        """``run`` makes all stages of all rounds."""
        return False

    def settings(self, config: RunConfig) -> dict[str, Any]:
        """What shapes predictions and makes labels of them."""
        thresholds = threshold_settings(config)
        if config.pseudo_label.thresholds != "fixed":
            thresholds["floor"] = config.refine.min_score
        return {
            **super().settings(config),
            **thresholds,
            "min_area": config.pseudo_label.min_area,
        }

    def sources(self, run: Run) -> dict[str, str]:
        """The validation images, and what the thresholds are chosen by."""
        section = run.config.data.validation
        if section is None:
            raise UsageError("data.validation is missing: label quality is measured on it")
        return {"validation": run.images.digest(section), **threshold_sources(run)}

    def upstream(self, config: RunConfig) -> dict[str, Stage]:
        """The model."""
        return {"teacher": model_of_round(self.round - 1), **threshold_upstream(config)}

    def check(self, run: Run) -> None:
        """Refuse a run without validation images."""
        self._truth(run)

    def records(self, run: Run) -> list[ImageRecord]:
        """The validation images."""
        return self._truth(run).images

    def _truth(self, run: Run) -> ImageSet:
        truth = run.images.validation
        if truth is None:
            raise UsageError("data.validation is missing: label quality is measured on it")
        return truth

    def make(self, run: Run, folder: Path) -> Outcome:
        """Predict, then hold the labels against the truth."""
        made = super().make(run, folder)
        chosen = choose_thresholds(run, folder, made.counts["images"])
        truth, labels = self._truth(run), labels_above(folder, chosen, run.config)
        aside = set(read_table(folder, "quarantine", ["image_id"])["image_id"].to_pylist())
        seen = ImageSet(
            truth.categories, [i for i in truth.images if i.id not in aside], truth.instances
        )
        figures = label_quality(seen, labels)
        made.metrics |= {"quality": quality(figures), "labels": figures}
        return made


def labels_above(folder: Path, thresholds: Thresholds, config: RunConfig) -> dict[int, list[Label]]:
    """The predictions of an artifact that become labels, by image id."""
    columns = ["image_id", "category_id", "score", "mask_rle", "soft_mask"]
    labels: dict[int, list[Label]] = {}
    for batch in read_table(folder, "predictions", columns).to_batches(max_chunksize=1024):
        for row in batch.to_pylist():
            score = thresholds.scores[row["category_id"]]
            if not drop_cause(row, score, config.pseudo_label.min_area):
                label = (row["category_id"], row["mask_rle"], row["score"])
                labels.setdefault(row["image_id"], []).append(label)
    return labels


def quality(figures: Mapping[str, Any]) -> float:
    """Sum of the matched pairs' IoU over the mean of the counts of labels and true instances.

    Args:
        figures: ``label_quality``'s; 0 where there are neither labels nor true instances.
    """
    both = (figures["labels"] + figures["truth"]) / 2
    return figures["matched"] * (figures["mean_iou"] or 0.0) / both if both else 0.0
