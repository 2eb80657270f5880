"""What commands print on standard output."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from s4m_pipeline.console.printable import echo
from s4m_pipeline.wording import counted, human_bytes

if TYPE_CHECKING:
    from s4m_pipeline.artifacts.manifest import Manifest
    from s4m_pipeline.engine.run import Run
    from s4m_pipeline.engine.stage import Stage
    from s4m_pipeline.review.table import Table


def human_seconds(count: float) -> str:
    """Seconds in a unit that reads well."""
    for unit, size in (("s", 60.0), ("min", 60.0), ("h", 24.0)):
        if count < size:
            return f"{count:.3g} {unit}"
        count /= size
    return f"{count:.3g} days"


def print_status(rows: Sequence[Mapping[str, Any]]) -> None:
    """Print where the stages stand."""
    from s4m_pipeline.review.terminal import print_table, status_table

    print_table(status_table(rows))


def print_evaluations(manifests: Mapping[str, Manifest], as_json: bool) -> None:
    """Print an evaluation, or several side by side.

    As JSON, a single one is its metrics, several are a mapping of metrics by name.
    """
    from s4m_pipeline.review.ap_tables import CHOSEN_HERE, evaluation_tables, side_by_side

    metrics = {name: manifest.metrics for name, manifest in manifests.items()}
    alone = next(iter(metrics.values())) if len(metrics) == 1 else None
    if as_json:
        echo(json.dumps(metrics if alone is None else alone, indent=2))
        return
    _print_tables(side_by_side(metrics) if alone is None else evaluation_tables(alone))
    chosen = [name for name, figures in metrics.items() if figures.get("chosen_here")]
    if chosen:
        echo(f"\n{', '.join(chosen)}: {CHOSEN_HERE}")


def print_calibration(run: Run, as_json: bool) -> None:
    """Print the gains of a run's calibration, and what it chose."""
    from s4m_pipeline.engine.registry import stage_named
    from s4m_pipeline.review.calibration_tables import calibration_tables

    stage = stage_named("calibrate")
    metrics = run.store.manifest(stage.name, run.fingerprint(stage)).metrics
    if as_json:
        echo(json.dumps(metrics, indent=2))
        return
    names = {category.id: category.name for category in run.images.labelled.categories}
    _print_tables(calibration_tables(metrics, names))


def _print_tables(tables: Iterable[Table]) -> None:
    """Print tables with an empty line between them."""
    from s4m_pipeline.review.terminal import print_table

    for place, table in enumerate(tables):
        if place:
            echo()
        print_table(table)


def print_quality(figures: Mapping[str, Mapping[str, Any]], as_json: bool) -> None:
    """Print the label quality before and after refinement."""
    from s4m_pipeline.review.terminal import comparison_table, print_table

    if as_json:
        echo(json.dumps(figures, indent=2))
        return
    rows = [
        {"name": f"{name} masks"}
        | {key: value for key, value in of_masks.items() if isinstance(value, (int, float))}
        for name, of_masks in figures.items()
    ]
    print_table(comparison_table(rows))


def print_views(compared: Mapping[str, Any], as_json: bool) -> None:
    """Print labels of all views against those of one, and where they lose."""
    from s4m_pipeline.review.table import Table
    from s4m_pipeline.review.terminal import print_table

    if as_json:
        echo(json.dumps(compared, indent=2))
        return
    heads = ["labels of", "score", "labels", "precision", "recall", "mean IoU", "best overlap"]
    rows = []
    for row in compared["rows"]:
        score = "the run's" if row["score"] is None else f"{row['score']:.3g}"
        rows.append([row["what"], score, *list(row.values())[2:]])
    print_table(Table("", heads, rows))
    losses = compared["losses"]
    said = "all views lose against one view:" if losses else "all views lose nothing"
    echo("\n".join([f"\n{said}", *losses]))


def print_plan(
    run: Run, stages: Sequence[Stage], force: bool = False, as_json: bool = False
) -> None:
    """Print what would run: the state, images, shards, iterations and disk of each stage.

    As JSON, it is a list with an object for each stage.
    """
    from s4m_pipeline.review.table import Table
    from s4m_pipeline.review.terminal import print_table

    rows = [_plan_row(run, stage, force) for stage in stages]
    if as_json:
        echo(json.dumps(rows, indent=2))
        return
    for row in rows:
        shards, disk = row["shards"], row["disk_bytes"]
        row["shards_done"] = f"{row['shards_done']}/{shards}" if shards else ""
        row["iterations"] = row["iterations"] or ""
        row["disk_bytes"] = "" if disk is None else human_bytes(disk)
        del row["shards"]
    heads = ["stage", "state", "images", "shards done", "iterations", "disk", "to do"]
    print_table(Table("", heads, [list(row.values()) for row in rows]))


def _plan_row(run: Run, stage: Stage, force: bool) -> dict[str, Any]:
    """What one stage would do; its disk is None where it would do nothing."""
    from s4m_pipeline.engine.perform import check_stage, freshness

    check_stage(run, stage, force)
    standing = freshness(run, stage)
    plan = stage.plan(run)
    todo, idle = standing.why, False
    if standing.state == "fresh":
        todo, idle = ("made again (--force)", False) if force else ("nothing, it is fresh", True)
    elif standing.state == "unfinished" and force:
        todo = "begun anew (--force)"
    if plan.passes > 1 and not idle:
        todo = f"{todo}; {plan.passes} passes of a network an image".removeprefix("; ")
    return {
        "stage": stage.title,
        "state": standing.state,
        "images": plan.images,
        "shards": plan.shards,
        "shards_done": 0 if force else plan.shards_done,
        "iterations": plan.steps,
        "disk_bytes": None if idle else plan.disk_bytes,
        "to_do": todo,
    }


def print_forecast(run: Run, stage: Stage, force: bool = False) -> None:
    """Print a forecast of a stage's time and disk, or on standard error why there is none."""
    from s4m_pipeline.engine.forecast import forecast, obstacle

    expected = forecast(run, stage, force)
    if expected is None:
        why = obstacle(run, stage, force)
        if why:
            echo(f"no forecast: {why}", err=True)
        return
    workers = run.config.execution.workers
    passes = f", {expected.passes:.2g} encoder passes an image" if expected.passes else ""
    echo(
        f"forecast from {expected.probed} images on {expected.device}: "
        f"{expected.image_seconds:.3g} s an image after {expected.start_seconds:.3g} s to start; "
        f"{expected.left} images with {counted(workers, 'worker', 'workers')}: "
        f"{human_seconds(expected.seconds)}, {human_bytes(expected.disk_bytes)}{passes}"
    )
