"""The work of ``compare-labels``: drift, label quality, AP, and the guard."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from s4m_pipeline.artifacts.manifest import file_entry
from s4m_pipeline.engine.registry import stage_named
from s4m_pipeline.engine.run import Run
from s4m_pipeline.engine.stage import Outcome, Stage
from s4m_pipeline.stages.comparison.decision import Taken, read_decision, write_decision
from s4m_pipeline.stages.comparison.drift import drift_of_artifacts
from s4m_pipeline.wording import counted

LEAST_SHARE = 0.5
"""Labels that are fewer than this share of those before are not taken."""


def compare_labels(run: Run, stage: Stage, folder: Path) -> Outcome:
    """Compare the labels of a refresh with those that were taken last, and decide.

    Args:
        run: The run, all inputs of the stage made.
        stage: The comparison.
        folder: The artifact's folder.
    """
    before = _before(run, stage)
    refined = stage.upstream(run.config)["refined"]
    now = Taken(stage.refresh, _labels(run, refined), _quality(run, stage, "held-out"))
    old = run.require(stage_named("refine", stage.round, refresh=before.labels))
    drift = drift_of_artifacts(old, run.require(refined))
    why = fault(before, now)
    taken = before if why else now
    metrics = {
        "taken": not why,
        "why_not": why,
        "labels_of": taken.labels,
        "before": asdict(before),
        "now": asdict(now),
        "drift": drift,
        **_figures(run, stage),
    }
    _tell(run, stage, metrics)
    counts = {"images": drift["images"], "instances": now.count, "quarantined": 0}
    return Outcome([file_entry(folder, write_decision(folder, taken))], counts, metrics)


def fault(before: Taken, now: Taken) -> str:
    """Why labels are not taken, in words; empty where they are."""
    if now.count < LEAST_SHARE * before.count:
        return f"they are {now.count}, less than half of the {before.count} before"
    if before.quality is None or now.quality is None or now.quality >= before.quality:
        return ""
    return (
        f"they are worse on the validation images, label quality {before.quality:.3f} -> "
        f"{now.quality:.3f}"
    )


def _before(run: Run, stage: Stage) -> Taken:
    """The labels that were taken last."""
    upstream = stage.upstream(run.config)
    if "compared" in upstream:
        return read_decision(run.require(upstream["compared"]))
    count = _labels(run, upstream["refined-before"])
    return Taken(0, count, _quality(run, stage, "held-out-before"))


def _labels(run: Run, refined: Stage) -> int:
    """How many labels a refine artifact has."""
    return run.store.manifest(refined.name, run.fingerprint(refined)).counts["instances"]


def _metrics(run: Run, stage: Stage, name: str) -> Mapping[str, Any]:
    """The metrics of an input; nothing without validation images."""
    upstream = stage.upstream(run.config)
    if name not in upstream:
        return {}
    return run.store.manifest(upstream[name].name, run.fingerprint(upstream[name])).metrics


def _quality(run: Run, stage: Stage, name: str) -> float | None:
    found = _metrics(run, stage, name).get("quality")
    return None if found is None else float(found)


def _figures(run: Run, stage: Stage) -> dict[str, Any]:
    """What the labelling model does on the validation images, where there are any."""
    held_out, evaluation = (_metrics(run, stage, name) for name in ("held-out", "evaluation"))
    if not held_out:
        return {}
    return {"held_out": held_out["labels"], "AP": evaluation["segm"]["AP"]}


def _tell(run: Run, stage: Stage, metrics: Mapping[str, Any]) -> None:
    """Say how the labels and the model stand, and whether the labels are taken."""
    at = run.config.student.refreshes[stage.refresh - 1]
    name = f"{stage.title}, iteration {at}"
    before, now, drift = (metrics[key] for key in ("before", "now", "drift"))
    iou = drift["mean_iou"]
    stayed = f"{drift['stayed']} stayed" + ("" if iou is None else f" (mean IoU {iou:.3f})")
    run.reporter.say(
        f"{name}: {counted(now['count'], 'label', 'labels')}, {before['count']} before: {stayed}, "
        f"{drift['changed_class']} changed class, {drift['came']} came, {drift['went']} went"
    )
    if "held_out" in metrics:
        figures = ((key, metrics["held_out"][key]) for key in ("precision", "recall", "mean_iou"))
        parts = [
            f"{key.replace('_iou', ' IoU')} {value:.3f}"
            for key, value in figures
            if value is not None
        ]
        parts.append(f"mask AP {100 * metrics['AP']:.1f}")
        run.reporter.say(
            f"{name}: label quality on held-out labels {before['quality']:.3f} -> "
            f"{now['quality']:.3f} ({', '.join(parts)}); validation that chooses labels cannot "
            "judge what learns from them"
        )
    else:
        run.reporter.say(
            f"{name}: no data.validation, so that only the number of labels is guarded"
        )
    if not metrics["taken"]:
        which = (
            f"those of refresh {before['labels']}"
            if before["labels"]
            else "the round's first labels"
        )
        run.reporter.warn(
            f"the labels of {stage.title.removeprefix(stage.name).strip()} are not taken: "
            f"{metrics['why_not']}; the training goes on with {which}"
        )
