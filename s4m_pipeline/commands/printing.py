"""What commands print on standard output."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from s4m_pipeline.artifacts.manifest import Manifest
    from s4m_pipeline.stages.base import Run, Stage


def human_bytes(count: float) -> str:
    """Bytes in a unit that reads well."""
    for unit in ("B", "KB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"


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

    As JSON, one is its metrics, several are a mapping of them by name.
    """
    from s4m_pipeline.review.ap_tables import evaluation_tables, side_by_side
    from s4m_pipeline.review.terminal import print_table

    metrics = {name: manifest.metrics for name, manifest in manifests.items()}
    alone = next(iter(metrics.values())) if len(metrics) == 1 else None
    if as_json:
        typer.echo(json.dumps(metrics if alone is None else alone, indent=2))
        return
    tables = side_by_side(metrics) if alone is None else evaluation_tables(alone)
    for place, table in enumerate(tables):
        if place:
            typer.echo()
        print_table(table)


def print_calibration(run: Run, as_json: bool) -> None:
    """Print what a run's calibration found."""
    from s4m_pipeline.review.calibration_tables import calibration_tables
    from s4m_pipeline.review.terminal import print_table
    from s4m_pipeline.stages.calibrate import Calibrate

    stage = Calibrate()
    metrics = run.store.manifest(stage.name, run.fingerprint(stage)).metrics
    if as_json:
        typer.echo(json.dumps(metrics, indent=2))
        return
    names = {category.id: category.name for category in run.images.labelled.categories}
    for place, table in enumerate(calibration_tables(metrics, names)):
        if place:
            typer.echo()
        print_table(table)


def print_quality(figures: Mapping[str, Mapping[str, Any]], as_json: bool) -> None:
    """Print the label quality before and after refinement."""
    from s4m_pipeline.review.terminal import comparison_table, print_table

    if as_json:
        typer.echo(json.dumps(figures, indent=2))
        return
    rows = [
        {"name": f"{name} masks"}
        | {key: value for key, value in found.items() if isinstance(value, (int, float))}
        for name, found in figures.items()
    ]
    print_table(comparison_table(rows))


def print_plan(run: Run, stages: Sequence[Stage], force: bool = False) -> None:
    """Print what would run: the state, images, shards, iterations and disk of each stage."""
    from s4m_pipeline.review.table import Cell, Table
    from s4m_pipeline.review.terminal import print_table
    from s4m_pipeline.stages.perform import check_stage, freshness
    from s4m_pipeline.stages.pipeline import label_of

    rows: list[list[Cell]] = []
    for stage in stages:
        check_stage(run, stage, force)
        found = freshness(run, stage)
        plan = stage.plan(run)
        todo = "nothing, it is fresh" if found.state == "fresh" else found.why
        shards = f"{plan.shards_done}/{plan.shards}" if plan.shards else ""
        rows.append(
            [
                label_of(stage),
                found.state,
                plan.images,
                shards,
                plan.steps or "",
                "" if found.state == "fresh" else human_bytes(plan.disk_bytes),
                todo,
            ]
        )
    heads = ["stage", "state", "images", "shards done", "iterations", "disk", "to do"]
    print_table(Table("", heads, rows))


def print_forecast(run: Run, stage: Stage) -> None:
    """Print what a stage's first images say of its time and disk; nothing where none can say."""
    from s4m_pipeline.stages.probe import forecast

    found = forecast(run, stage)
    if found is None:
        return
    workers = run.config.execution.workers
    typer.echo(
        f"forecast from {found.probed} images on {found.device}: {found.image_seconds:.3g} s an "
        f"image after {found.start_seconds:.3g} s to start; {found.left} images with {workers} "
        f"worker{'s' if workers > 1 else ''}: {human_seconds(found.seconds)}, "
        f"{human_bytes(found.disk_bytes)}"
    )
