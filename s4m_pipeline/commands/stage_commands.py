"""One command a stage, and ``run`` and ``status`` over all of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from s4m_pipeline.commands.options import (
    ConfigOption,
    DryRun,
    Force,
    Json,
    Overrides,
    Verbose,
    open_run,
)

if TYPE_CHECKING:
    from s4m_pipeline.stages.base import Run, Stage


_STAGES = (
    ("structure", "structure", "Structure", "Make structural targets of the labelled images."),
    (
        "train-teacher",
        "train_teacher",
        "TrainTeacher",
        "Train the teacher on the labelled images. Stopped, it goes on at its last checkpoint.",
    ),
    (
        "pseudo-label",
        "pseudo_label",
        "PseudoLabel",
        "Let the teacher predict the unlabelled images; all above a low score is kept.",
    ),
    (
        "refine",
        "refine",
        "Refine",
        "Let the segmenter redraw the teacher's masks, one encoder pass an image.",
    ),
    (
        "train-student",
        "train_student",
        "TrainStudent",
        "Train the student on labelled images and refined labels.",
    ),
)
"""Command, module below ``stages``, class, help: read only when the command runs."""


def _stage_command(module: str, name: str) -> Callable[..., None]:
    """Make the command of one stage."""

    def command(
        config: ConfigOption,
        overrides: Overrides = None,
        dry_run: DryRun = False,
        force: Force = False,
        verbose: Verbose = False,
    ) -> None:
        stage = getattr(import_module(f"s4m_pipeline.stages.{module}"), name)()
        _perform(open_run(config, overrides), [stage], force, dry_run)

    return command


def _perform(run: Run, stages: list[Stage], force: bool, dry_run: bool) -> None:
    from s4m_pipeline.commands.printing import print_plan
    from s4m_pipeline.errors import DONE
    from s4m_pipeline.stages.perform import exit_code
    from s4m_pipeline.stages.pipeline import run_all

    if dry_run:
        print_plan(run, stages)
        return
    codes = [exit_code(manifest) for manifest in run_all(run, stages, force).values()]
    for stage in stages:
        typer.echo(run.folder(stage))
    if max(codes) != DONE:
        raise typer.Exit(max(codes))


def evaluate(
    config: ConfigOption,
    overrides: Overrides = None,
    of: Annotated[
        str, typer.Option(help="student, teacher, or the folder of a training artifact.")
    ] = "student",
    split: Annotated[str, typer.Option(help="validation or labelled.")] = "validation",
    images: Annotated[Path | None, typer.Option(help="Folder of another image set.")] = None,
    annotations: Annotated[Path | None, typer.Option(help="COCO file of that image set.")] = None,
    averaged: Annotated[bool, typer.Option(help="Take the averaged weights (EMA).")] = True,
    labels: Annotated[
        bool, typer.Option("--labels", help="Judge the pseudo-labels by --annotations instead.")
    ] = False,
    as_json: Json = False,
    dry_run: DryRun = False,
    force: Force = False,
    verbose: Verbose = False,
) -> None:
    """Mask and box AP of a checkpoint on an image set; or the pseudo-labels against the truth."""
    from s4m_pipeline.commands.printing import print_metrics, print_plan, print_quality
    from s4m_pipeline.errors import DONE
    from s4m_pipeline.stages.evaluate import Evaluate, evaluated_set
    from s4m_pipeline.stages.label_quality import label_quality_of_run
    from s4m_pipeline.stages.perform import exit_code, perform

    run = open_run(config, overrides)
    if labels:
        print_quality(label_quality_of_run(run, annotations), as_json)
        return
    name, source = evaluated_set(split, images, annotations)
    stage = Evaluate(of, name, averaged, source)
    if dry_run:
        print_plan(run, [stage])
        return
    manifest = perform(run, stage, force)
    print_metrics(manifest, as_json)
    if exit_code(manifest) != DONE:
        raise typer.Exit(exit_code(manifest))


def run_command(
    config: ConfigOption,
    overrides: Overrides = None,
    dry_run: DryRun = False,
    force: Force = False,
    verbose: Verbose = False,
) -> None:
    """Run all stages in order, skipping what is fresh, going on where one was stopped."""
    from s4m_pipeline.stages.pipeline import stages_of

    run = open_run(config, overrides)
    _perform(run, stages_of(run.config), force, dry_run)


def status(
    config: ConfigOption,
    overrides: Overrides = None,
    as_json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Say which stages are fresh, stale, unfinished or missing, and why."""
    from s4m_pipeline.commands.printing import print_status
    from s4m_pipeline.stages.pipeline import status as status_of

    rows = status_of(open_run(config, overrides))
    if as_json:
        typer.echo(json.dumps(rows, indent=2))
    else:
        print_status(rows)


def add_to(app: typer.Typer) -> None:
    """Register these commands."""
    app.command("run")(run_command)
    for command, module, name, text in _STAGES:
        app.command(command, help=text)(_stage_command(module, name))
    app.command("evaluate")(evaluate)
    app.command("status")(status)
