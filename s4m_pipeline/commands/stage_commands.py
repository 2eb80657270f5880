"""A command for each stage, made from the registry's rows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import typer

from s4m_pipeline.commands.options import ConfigOption, DryRun, Force, Overrides, example, open_run
from s4m_pipeline.commands.performing import perform_and_print
from s4m_pipeline.engine.registry import STAGES, stage_named


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
            command = own.get(row.name) or stage_command(row.name)
            app.command(row.name, help=row.help, epilog=example(f"{row.name} {row.example}"))(
                command
            )
