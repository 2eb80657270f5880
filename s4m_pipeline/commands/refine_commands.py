"""``refine``, ``calibrate`` and ``rethreshold``: labels from predictions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from s4m_pipeline.commands.options import (
    ConfigOption,
    DryRun,
    Force,
    Json,
    Overrides,
    Refresh,
    example,
    open_run,
    tell_new_name,
)
from s4m_pipeline.commands.performing import finish, perform_and_print, refreshed_stage
from s4m_pipeline.errors import UsageError

if TYPE_CHECKING:
    from s4m_pipeline.engine.run import Run


def refine(
    config: ConfigOption,
    overrides: Overrides = None,
    calibrate: Annotated[
        bool, typer.Option("--calibrate", help="Now a command of its own: s4m calibrate.")
    ] = False,
    rethreshold: Annotated[
        bool, typer.Option("--rethreshold", help="Now a command of its own: s4m rethreshold.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print JSON; with --calibrate only.")
    ] = False,
    refresh: Refresh = 0,
    dry_run: DryRun = False,
    force: Force = False,
) -> None:
    """Refine, or do what an old flag asks for, which is a command of its own now."""
    if calibrate and rethreshold:
        raise UsageError("--calibrate and --rethreshold are different things: choose one")
    if rethreshold and force:
        raise UsageError("--rethreshold has nothing to force: it makes only what is not there yet")
    if as_json and not calibrate:
        raise UsageError("--json goes with --calibrate")
    if refresh and (calibrate or rethreshold):
        raise UsageError("--refresh goes without --calibrate and --rethreshold")
    run = open_run(config, overrides)
    if calibrate:
        tell_new_name("refine --calibrate", "calibrate")
        _calibrate(run, force, dry_run, as_json)
    elif rethreshold:
        tell_new_name("refine --rethreshold", "rethreshold")
        _rethreshold(run, dry_run)
    else:
        perform_and_print(run, [refreshed_stage(run, "refine", refresh)], force, dry_run)


def calibrate(
    config: ConfigOption,
    overrides: Overrides = None,
    as_json: Json = False,
    dry_run: DryRun = False,
    force: Force = False,
) -> None:
    """Measure on the labelled images which way of refining makes masks better."""
    _calibrate(open_run(config, overrides), force, dry_run, as_json)


def rethreshold(config: ConfigOption, overrides: Overrides = None, dry_run: DryRun = False) -> None:
    """Choose labels by other thresholds among the masks of an earlier refinement, in seconds."""
    _rethreshold(open_run(config, overrides), dry_run)


def _rethreshold(run: Run, dry_run: bool) -> None:
    from s4m_pipeline.stages.refine.rethreshold import rethresholding

    perform_and_print(run, [rethresholding()], False, dry_run)


def _calibrate(run: Run, force: bool, dry_run: bool, as_json: bool) -> None:
    """Measure policies and print the figures, or only what would be made.

    Where there is no policy to measure, but thresholds depend on the predictions, only those are
    made.
    """
    from s4m_pipeline.commands.printing import print_calibration, print_plan
    from s4m_pipeline.workflow.pipeline import calibration_stages, run_all

    stages = calibration_stages(run.config)
    if stages[-1].name != "calibrate":
        why = "refine.policy is none: there is no policy to measure"
        if as_json:
            raise UsageError(f"{why} and no JSON to print; leave out --json")
        run.reporter.say(f"{why}; pseudo_label.thresholds=precision needs the predictions alone")
        perform_and_print(run, stages, force, dry_run)
    elif dry_run:
        print_plan(run, stages, force, as_json)
    else:
        manifests = run_all(run, stages, force)
        print_calibration(run, as_json)
        finish(manifests.values())


def add_to(app: typer.Typer) -> None:
    """Register the command that is no stage's."""
    epilog = example("rethreshold -c run.yaml pseudo_label.score=0.6")
    app.command("rethreshold", epilog=epilog)(rethreshold)
