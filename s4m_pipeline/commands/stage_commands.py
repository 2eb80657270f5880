"""A command for each stage, made from the registry's rows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

import typer

from s4m_pipeline.commands.options import (
    ConfigOption,
    DryRun,
    Force,
    Overrides,
    Refresh,
    example,
    open_run,
)
from s4m_pipeline.commands.performing import perform_and_print, refreshed_stage
from s4m_pipeline.engine.registry import STAGES, stage_class, stage_named


def stage_command(name: str) -> Callable[..., None]:
    """The command of a stage that has no options of its own."""

    def command(
        config: ConfigOption,
        overrides: Overrides = None,
        dry_run: DryRun = False,
        force: Force = False,
    ) -> None:
        perform_and_print(open_run(config, overrides), [stage_named(name)], force, dry_run)

    return command


def refreshed_command(name: str) -> Callable[..., None]:
    """The command of a stage of which every refresh has one of its own."""

    def command(
        config: ConfigOption,
        overrides: Overrides = None,
        refresh: Refresh = 0,
        dry_run: DryRun = False,
        force: Force = False,
    ) -> None:
        run = open_run(config, overrides)
        perform_and_print(run, [refreshed_stage(run, name, refresh)], force, dry_run)

    return command


def train_student(
    config: ConfigOption,
    overrides: Overrides = None,
    refresh: Annotated[
        int, typer.Option(help="Up to which refresh alone; 0 is all, to the end.")
    ] = 0,
    dry_run: DryRun = False,
    force: Force = False,
) -> None:
    """Train the student, or the part of its training that ends at a refresh.

    All parts before the last one are made where they are not fresh; ``--force`` is about the last.
    """
    from s4m_pipeline.workflow.pipeline import run_all

    run = open_run(config, overrides)
    last = refreshed_stage(run, "train-student", refresh)
    if refresh or not run.config.student.refreshes:
        perform_and_print(run, [last], force, dry_run)
        return
    *parts, _ = stage_class("train-student").of_round(run.config, 1)
    if dry_run or not force:
        perform_and_print(run, [*parts, last], force, dry_run)
        return
    run_all(run, parts)
    perform_and_print(run, [last], force, dry_run)


def add_to(app: typer.Typer, own: dict[str, Callable[..., Any]]) -> None:
    """Register the commands of all stages that have one.

    Args:
        app: Gets them in the registry's order.
        own: By the stage's name, the commands that have options of their own.
    """
    if unknown := own.keys() - STAGES.keys():
        raise ValueError(f"commands of no stage: {', '.join(sorted(unknown))}")
    for row in STAGES.values():
        if row.help:
            usual = refreshed_command if row.refreshed else stage_command
            command = own.get(row.name) or usual(row.name)
            app.command(row.name, help=row.help, epilog=example(f"{row.name} {row.example}"))(
                command
            )
