"""One command a stage, and ``run`` and ``status`` over all of them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
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
    from s4m_pipeline.artifacts.manifest import Manifest
    from s4m_pipeline.engine.run import Run
    from s4m_pipeline.engine.stage import Stage


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
    """Make stages' artifacts and print their folders, or only what would be made."""
    from s4m_pipeline.commands.printing import print_forecast, print_plan
    from s4m_pipeline.workflow.pipeline import run_all

    if dry_run:
        print_plan(run, stages, force)
        if len(stages) == 1:
            print_forecast(run, stages[0], force)
        return
    made = run_all(run, stages, force)
    for stage in stages:
        typer.echo(run.folder(stage))
    _finish(made.values())


def _calibrate(run: Run, force: bool, dry_run: bool, as_json: bool) -> None:
    """Measure policies and print what was found, or only what would be made.

    Without a policy only the predictions are made, where thresholds are chosen by them.
    """
    from s4m_pipeline.commands.printing import print_calibration, print_plan
    from s4m_pipeline.errors import UsageError
    from s4m_pipeline.stages.calibration.calibrate import Calibrate
    from s4m_pipeline.workflow.pipeline import calibration_stages, run_all

    stages = calibration_stages(run.config, wanted=True)
    if not any(isinstance(stage, Calibrate) for stage in stages):
        why = "refine.policy is none: there is no policy to measure"
        if as_json:
            raise UsageError(f"{why}, and so no JSON to print; leave out --json")
        run.reporter.say(f"{why}; pseudo_label.thresholds=precision needs predictions alone")
        _perform(run, stages, force, dry_run)
    elif dry_run:
        print_plan(run, stages, force, as_json)
    else:
        made = run_all(run, stages, force)
        print_calibration(run, as_json)
        _finish(made.values())


def _finish(manifests: Iterable[Manifest]) -> None:
    """Leave with the worst of some artifacts' exit codes, where that is not 0."""
    from s4m_pipeline.engine.perform import exit_code
    from s4m_pipeline.errors import DONE

    code = max(exit_code(manifest) for manifest in manifests)
    if code != DONE:
        raise typer.Exit(code)


def evaluate(
    config: ConfigOption,
    overrides: Overrides = None,
    of: Annotated[
        str, typer.Option(help="student, teacher, student-2 (a round's), all, or a folder or file.")
    ] = "student",
    split: Annotated[str, typer.Option(help="validation or labelled.")] = "validation",
    images: Annotated[Path | None, typer.Option(help="Folder of another image set.")] = None,
    annotations: Annotated[Path | None, typer.Option(help="COCO file of that image set.")] = None,
    averaged: Annotated[bool, typer.Option(help="Take the averaged weights (EMA).")] = True,
    compare: Annotated[
        bool,
        typer.Option(
            "--compare", help="Teacher, student, its last weights, later rounds (--of all)."
        ),
    ] = False,
    metric: Annotated[
        str, typer.Option(help="coco, cityscapes, both, or auto: both for Cityscapes' classes.")
    ] = "auto",
    labels: Annotated[
        bool, typer.Option("--labels", help="Judge the pseudo-labels by --annotations instead.")
    ] = False,
    number: Annotated[
        int | None, typer.Option("--round", help="Of which round, with --labels.", show_default="1")
    ] = None,
    as_json: Json = False,
    dry_run: DryRun = False,
    force: Force = False,
    verbose: Verbose = False,
) -> None:
    """AP of a checkpoint, or of all of them, on an image set; or the pseudo-labels' quality."""
    from s4m_pipeline.commands.printing import print_evaluations, print_plan, print_quality
    from s4m_pipeline.errors import UsageError
    from s4m_pipeline.stages.evaluate import evaluated_set
    from s4m_pipeline.workflow.compare import ALL, evaluate_all, evaluations, later_rounds
    from s4m_pipeline.workflow.label_quality import label_quality_of_run

    if number is not None and not labels:
        raise UsageError("--round goes with --labels; a round's student is --of student-2")
    run = open_run(config, overrides)
    if labels:
        number = 1 if number is None else number
        print_quality(label_quality_of_run(run, annotations, number), as_json)
        return
    name, source = evaluated_set(split, images, annotations)
    of = ALL if compare else of
    later = later_rounds(run) if of == ALL else []
    stages = evaluations(run.config, of, name, averaged, source, metric, not force, later)
    if dry_run:
        print_plan(run, list(stages.values()), force, as_json)
        return
    manifests = evaluate_all(run, stages, force)
    print_evaluations(manifests, as_json)
    _finish(manifests.values())


def refine(
    config: ConfigOption,
    overrides: Overrides = None,
    calibrate: Annotated[
        bool, typer.Option("--calibrate", help="Measure policies on the labelled images instead.")
    ] = False,
    rethreshold: Annotated[
        bool,
        typer.Option("--rethreshold", help="Move thresholds of an earlier refinement, in seconds."),
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print JSON; with --calibrate only.")
    ] = False,
    dry_run: DryRun = False,
    force: Force = False,
    verbose: Verbose = False,
) -> None:
    """Let the segmenter redraw the teacher's masks, one encoder pass an image."""
    from s4m_pipeline.errors import UsageError

    if calibrate and rethreshold:
        raise UsageError("--calibrate and --rethreshold are different things: choose one")
    if rethreshold and force:
        raise UsageError("--rethreshold has nothing to force: it makes what is not there yet")
    if as_json and not calibrate:
        raise UsageError("--json goes with --calibrate")
    run = open_run(config, overrides)
    if calibrate:
        _calibrate(run, force, dry_run, as_json)
        return
    name = "rethreshold" if rethreshold else "stage"
    module = import_module(f"s4m_pipeline.stages.refine.{name}")
    stage = module.Rethreshold() if rethreshold else module.Refine()
    _perform(run, [stage], force, dry_run)


def run_command(
    config: ConfigOption,
    overrides: Overrides = None,
    rounds: Annotated[
        int, typer.Option(help="Rounds at most: each student is the next round's teacher.")
    ] = 1,
    dry_run: DryRun = False,
    force: Force = False,
    verbose: Verbose = False,
) -> None:
    """Run all stages in order, skipping what is fresh, going on where one was stopped."""
    from s4m_pipeline.commands.printing import print_evaluations
    from s4m_pipeline.engine.paths import check_paths
    from s4m_pipeline.stages.evaluate import Evaluate
    from s4m_pipeline.workflow.pipeline import stages_of_rounds
    from s4m_pipeline.workflow.rounds import planned_stages, run_rounds

    run = open_run(config, overrides)
    check_paths(run.config)
    stages = stages_of_rounds(run.config, rounds)
    if dry_run:
        _perform(run, planned_stages(run.config, rounds), force, dry_run)
        return
    made = run_rounds(run, rounds, force, on_round=lambda result: typer.echo(str(result)))
    for stage in stages:
        if stage.key in made:
            typer.echo(run.folder(stage))
    found = {
        stage.label: made[stage.key]
        for stage in stages
        if isinstance(stage, Evaluate) and stage.key in made
    }
    if found:
        print_evaluations(found, as_json=False)
    _finish(made.values())


def status(
    config: ConfigOption,
    overrides: Overrides = None,
    as_json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Say which stages are fresh, stale, unfinished, missing or damaged, and why."""
    from s4m_pipeline.commands.printing import print_status
    from s4m_pipeline.workflow.pipeline import status as status_of

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
        if command == "pseudo-label":
            app.command("refine")(refine)
    app.command("evaluate")(evaluate)
    app.command("status")(status)
