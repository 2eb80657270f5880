"""Labels of several views and teachers against those of one view, on the validation images.

Where views disagree scores shrink, so at one score there are fewer labels of several views. Both
are compared at the run's thresholds, at a row of scores, and at scores that leave as many labels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from s4m_pipeline.artifacts.tables import read_table
from s4m_pipeline.data.image_set import ImageSet, require_instances
from s4m_pipeline.engine.image_sources import VALIDATION
from s4m_pipeline.engine.perform import perform
from s4m_pipeline.engine.registry import check_round, stage_named
from s4m_pipeline.engine.run import Run
from s4m_pipeline.errors import UsageError
from s4m_pipeline.labels.thresholds import fixed_thresholds
from s4m_pipeline.metrics.label_quality import label_quality
from s4m_pipeline.metrics.matching import Label
from s4m_pipeline.stages.calibration.held_out_quality import labels_above
from s4m_pipeline.stages.teachers import labels_as_one

SCORES = tuple(number / 10 for number in range(1, 10))
FIGURES = ("labels", "precision", "recall", "mean_iou", "mean_best_iou")
ONE, ALL, AS_MANY = "one view", "all views", "all views, as many labels"
"""The names of what is compared."""
Labels = Mapping[int, Sequence[Label]]


def views_against_one(run: Run, round_number: int = 1) -> dict[str, Any]:
    """Compare labels of all views and teachers with those of the round's own model in one view.

    What of the validation images is not predicted yet is predicted.

    Args:
        run: The run, with the model that labels.
        round_number: The round whose labels are compared, from 1.

    Returns:
        ``rows``: mappings of ``what``, ``score`` (None for the run's thresholds) and the
        figures that ``metrics.label_quality`` describes; and ``losses``: sentences about where all
        views together have less precision or recall than one.

    Raises:
        UsageError: There is nothing to compare, or no validation images to do so.
    """
    check_round(round_number)
    if labels_as_one(run.config):
        raise UsageError(
            "nothing to compare: pseudo_label.views has the picture as it is alone, and there are "
            "no pseudo_label.teachers"
        )
    if run.config.data.validation is None:
        raise UsageError("views are compared on validation images, but data.validation is missing")
    found, rows = {}, []
    truth = VALIDATION.images(run)
    for what, alone in ((ONE, True), (ALL, False)):
        stage = stage_named("held-out", round_number, alone=alone)
        figures = perform(run, stage).metrics["labels"]
        rows.append(_row(what, None, figures))
        every = fixed_thresholds([category.id for category in truth.categories], 0.0)
        found[what] = labels_above(run.folder(stage), every, run.config)
        aside = read_table(run.folder(stage), "quarantine", ["image_id"])["image_id"]
        truth = truth.without(set(aside.to_pylist()))
    require_instances(truth, "data.validation")
    rows += [row for score in SCORES for row in _at(truth, found[ONE], found[ALL], score)]
    return {"rows": rows, "losses": _losses(rows)}


def _at(truth: ImageSet, one: Labels, several: Labels, score: float) -> list[dict[str, Any]]:
    """The figures at a score of one view: of both, and of as many labels of all views."""
    labels = _above(one, score)
    count = sum(map(len, labels.values()))
    ranked = sorted((label.score for of in several.values() for label in of), reverse=True)
    as_many = ranked[count] if count < len(ranked) else 0.0
    return [
        _row(ONE, score, label_quality(truth, labels)),
        _row(ALL, score, label_quality(truth, _above(several, score))),
        _row(AS_MANY, as_many, label_quality(truth, _above(several, as_many))),
    ]


def _above(labels: Labels, score: float) -> dict[int, list[Label]]:
    return {key: [one for one in of if one.score > score] for key, of in labels.items()}


def _row(what: str, score: float | None, figures: Mapping[str, Any]) -> dict[str, Any]:
    return {"what": what, "score": score, **{name: figures[name] for name in FIGURES}}


def _losses(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Where all views have less precision or recall than the row of one view before them."""
    lines, one = [], rows[0]
    for row in rows:
        if row["what"] == ONE:
            one = row
            continue
        lost = [
            f"{name} {one[name]:.3f} -> {row[name] or 0:.3f}"
            for name in ("precision", "recall")
            if one["labels"] and one[name] is not None and (row[name] or 0) < one[name]
        ]
        if lost:
            lines.append(f"{_where(one, row)}: {', '.join(lost)}")
    return lines


def _where(one: Mapping[str, Any], row: Mapping[str, Any]) -> str:
    if row["score"] is None:
        return "at the run's thresholds"
    if row["what"] == ALL:
        return f"at score {row['score']:g}"
    return f"at score {row['score']:.3g}, of as many labels as one view has at {one['score']:g}"
