"""A run's score thresholds per class, which decide what becomes a label. Needs no GPU.

``fixed`` is one score for all classes. ``rate`` follows the labelled set's rate and needs scores
alone. ``precision`` and ``auto`` need the cross-fitted predictions of the labelled images as well.
None of these goes below ``refine.min_score``, because predictions below it are not refined.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from s4m_pipeline.engine.registry import stage_named
from s4m_pipeline.engine.run import Run
from s4m_pipeline.labels.scored_predictions import judged_predictions, prediction_scores
from s4m_pipeline.labels.thresholds import (
    Thresholds,
    best_thresholds,
    fixed_thresholds,
    precision_thresholds,
    rate_thresholds,
)

MOST_NAMED = 20
"""Classes named in a warning at most."""


def choose_thresholds(run: Run, predictions: Path, images: int) -> Thresholds:
    """The thresholds that a run's configuration asks for.

    Args:
        run: The run; for ``precision`` and ``auto`` it must have its ``cross-fit`` artifact.
        predictions: Folder of the artifact whose predictions are to become labels.
        images: How many images were predicted, including those without any prediction.
    """
    section, labelled = run.config.pseudo_label, run.images.labelled
    categories = [category.id for category in labelled.categories]
    if section.thresholds == "fixed":
        return fixed_thresholds(categories, section.score)
    floor = run.config.refine.min_score
    if section.judged:
        scores, true = judged_predictions(run, run.require(stage_named("cross-fit")), floor)
        if section.thresholds == "auto":
            instances = sum(labelled_counts(run).values())
            return best_thresholds(scores, true, categories, instances, floor)
        return precision_thresholds(scores, true, categories, section.precision, floor)
    category, score = prediction_scores(predictions, floor, section.min_area)
    scores = {key: score[category == key] for key in categories}
    counts = labelled_counts(run)
    return rate_thresholds(scores, images, counts, len(labelled.images), floor)


def labelled_counts(run: Run) -> dict[int, int]:
    """Labelled instances, crowds left out, by category id."""
    labelled = run.images.labelled
    counts = {category.id: 0 for category in labelled.categories}
    for instances in labelled.instances.values():
        for instance in instances:
            counts[instance.category_id] += not instance.iscrowd
    return counts


def report_thresholds(run: Run, thresholds: Thresholds) -> dict[str, Any]:
    """Warn of thresholds that miss what was asked for, and return all of them for a manifest."""
    warn_unreached(run, thresholds)
    return thresholds_as_json(run, thresholds)


def thresholds_as_json(run: Run, thresholds: Thresholds) -> dict[str, Any]:
    """Thresholds for a manifest: how they were set, scores by class name, pooled classes."""
    names = {category.id: category.name for category in run.images.labelled.categories}
    return {
        "how": run.config.pseudo_label.thresholds,
        "scores": {names[key]: score for key, score in thresholds.scores.items()},
        "pooled": [names[key] for key in thresholds.pooled],
    }


def warn_unreached(run: Run, thresholds: Thresholds) -> None:
    """Warn of classes whose threshold misses the rate or the precision asked for."""
    section, floor = run.config.pseudo_label, run.config.refine.min_score
    categories, scores = run.images.labelled.categories, thresholds.scores
    if section.thresholds == "rate":
        low = [c.name for c in categories if scores[c.id] <= floor]
        if low:
            run.reporter.warn(
                f"refine.min_score {floor:g} keeps thresholds from following the labelled rate for "
                f"{_listed(low)}: fewer labels of them"
            )
    if section.thresholds == "auto" and all(score >= 1 for score in scores.values()):
        run.reporter.warn(
            f"none of the predictions above refine.min_score {floor:g} on the labelled images is "
            "right: no score can be chosen, no labels"
        )
    if section.thresholds != "precision":
        return
    unreached = [c.name for c in categories if scores[c.id] >= 1]
    if unreached:
        run.reporter.warn(
            f"no score reaches pseudo_label.precision {section.precision:g} on the labelled "
            f"images for {_listed(unreached)}: no labels of them"
        )
    pooled = [c.name for c in categories if c.id in thresholds.pooled and scores[c.id] < 1]
    if pooled:
        run.reporter.warn(
            f"too few predictions on the labelled images to judge {_listed(pooled)}: their "
            "threshold is that of all classes together"
        )


def _listed(names: list[str]) -> str:
    left = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
    return ", ".join(names[:MOST_NAMED]) + left
