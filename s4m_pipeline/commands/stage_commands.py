"""One command a stage, and ``run`` and ``status`` over all of them."""

from __future__ import annotations

import json
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


def _perform(run: Run, stages: list[Stage], force: bool, dry_run: bool) -> None:
    from s4m_pipeline.commands.printing import print_plan
    from s4m_pipeline.errors import DONE
    from s4m_pipeline.stages.perform import exit_code, perform

    if dry_run:
        print_plan(run, stages)
        return
    codes = [exit_code(perform(run, stage, force)) for stage in stages]
    for stage in stages:
        typer.echo(run.folder(stage))
    if max(codes) != DONE:
        raise typer.Exit(max(codes))


def structure(
    config: ConfigOption,
    overrides: Overrides = None,
    dry_run: DryRun = False,
    force: Force = False,
    verbose: Verbose = False,
) -> None:
    """Make the segmenter's structural targets of the labelled images."""
    from s4m_pipeline.stages.structure import Structure

    _perform(open_run(config, overrides), [Structure()], force, dry_run)


def train_teacher(
    config: ConfigOption,
    overrides: Overrides = None,
    dry_run: DryRun = False,
    force: Force = False,
    verbose: Verbose = False,
) -> None:
    """Train the teacher on the labelled images. Stopped, it goes on at its last checkpoint."""
    from s4m_pipeline.stages.train_teacher import TrainTeacher

    _perform(open_run(config, overrides), [TrainTeacher()], force, dry_run)


def pseudo_label(
    config: ConfigOption,
    overrides: Overrides = None,
    dry_run: DryRun = False,
    force: Force = False,
    verbose: Verbose = False,
) -> None:
    """Let the teacher predict the unlabelled images; every prediction above a low score is kept."""
    from s4m_pipeline.stages.pseudo_label import PseudoLabel

    _perform(open_run(config, overrides), [PseudoLabel()], force, dry_run)


def refine(
    config: ConfigOption,
    overrides: Overrides = None,
    dry_run: DryRun = False,
    force: Force = False,
    verbose: Verbose = False,
) -> None:
    """Let the segmenter redraw the teacher's masks, one encoder pass an image."""
    from s4m_pipeline.stages.refine import Refine

    _perform(open_run(config, overrides), [Refine()], force, dry_run)


def train_student(
    config: ConfigOption,
    overrides: Overrides = None,
    dry_run: DryRun = False,
    force: Force = False,
    verbose: Verbose = False,
) -> None:
    """Train the student on labelled images and refined labels."""
    from s4m_pipeline.stages.train_student import TrainStudent

    _perform(open_run(config, overrides), [TrainStudent()], force, dry_run)


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
    from s4m_pipeline.stages.evaluate import Evaluate, evaluated_set
    from s4m_pipeline.stages.label_quality import label_quality_of_run
    from s4m_pipeline.stages.perform import perform

    run = open_run(config, overrides)
    if labels:
        print_quality(label_quality_of_run(run, annotations), as_json)
        return
    name, source = evaluated_set(split, images, annotations)
    stage = Evaluate(of, name, averaged, source)
    if dry_run:
        print_plan(run, [stage])
        return
    print_metrics(perform(run, stage, force), as_json)


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
    app.command("structure")(structure)
    app.command("train-teacher")(train_teacher)
    app.command("pseudo-label")(pseudo_label)
    app.command("refine")(refine)
    app.command("train-student")(train_student)
    app.command("evaluate")(evaluate)
    app.command("status")(status)
