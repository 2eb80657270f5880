"""``run``, ``status`` and ``report``: all stages of a run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

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
)
from s4m_pipeline.commands.performing import finish, perform_and_print
from s4m_pipeline.console.printable import echo
from s4m_pipeline.engine.registry import stages_with_page


def run_command(
    config: ConfigOption,
    overrides: Overrides = None,
    rounds: Annotated[
        int, typer.Option(help="Rounds at most: each student is the next round's teacher.")
    ] = 1,
    dry_run: DryRun = False,
    force: Force = False,
) -> None:
    """Run all stages in order; fresh ones are skipped, and a stopped one resumes."""
    from s4m_pipeline.commands.printing import print_evaluations
    from s4m_pipeline.engine.paths import check_paths
    from s4m_pipeline.stages.evaluate import Evaluate
    from s4m_pipeline.workflow.pipeline import stages_of_rounds
    from s4m_pipeline.workflow.rounds import planned_stages, refresh_costs, run_rounds, tell_start

    run = open_run(config, overrides, "run" if rounds == 1 else f"run --rounds {rounds}")
    check_paths(run.config)
    stages = stages_of_rounds(run.config, rounds)
    if dry_run:
        tell_start(run, rounds)
        perform_and_print(run, planned_stages(run.config, rounds), force, dry_run)
        if costs := refresh_costs(run, rounds):
            echo(costs)
        return
    manifests = run_rounds(run, rounds, force, on_round=lambda result: echo(str(result)))
    for stage in stages:
        if stage.title in manifests:
            echo(run.folder(stage))
    evaluations = {
        stage.label: manifests[stage.title]
        for stage in stages
        if isinstance(stage, Evaluate) and stage.title in manifests
    }
    if evaluations:
        print_evaluations(evaluations, as_json=False)
    finish(manifests.values())


def status(config: ConfigOption, overrides: Overrides = None, as_json: Json = False) -> None:
    """Say which stages are fresh, stale, unfinished, missing or damaged, and why."""
    from s4m_pipeline.commands.printing import print_status
    from s4m_pipeline.workflow.pipeline import status as status_of

    rows = status_of(open_run(config, overrides))
    if as_json:
        echo(json.dumps(rows, indent=2))
    else:
        print_status(rows)


def report(
    config: ConfigOption,
    overrides: Overrides = None,
    stage: Annotated[str, typer.Option(help=f"One of {', '.join(stages_with_page())}.")] = "refine",
    out: Annotated[Path, typer.Option(help="The HTML file to write.")] = Path("report.html"),
    limit: Annotated[int, typer.Option(min=1, help="Images to show at most.")] = 24,
    number: Annotated[int, typer.Option("--round", help="Of which round.")] = 1,
    refresh: Refresh = 0,
) -> None:
    """Write a page about a stage's artifact: figures, and the teacher's and the refined masks."""
    from s4m_pipeline.workflow.report import write_stage_report

    write_stage_report(open_run(config, overrides), stage, out, limit, number, refresh)
    echo(out)


def add_run_to(app: typer.Typer) -> None:
    """Register ``run``."""
    app.command("run", epilog=example("run -c run.yaml --dry-run"))(run_command)


def add_to(app: typer.Typer) -> None:
    """Register ``status`` and ``report``."""
    app.command("status", epilog=example("status -c run.yaml"))(status)
    epilog = example("report -c run.yaml --stage refine --out labels.html")
    app.command("report", epilog=epilog)(report)
