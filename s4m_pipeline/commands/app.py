"""The ``s4m`` command, put together from its parts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import typer

from s4m_pipeline import __version__
from s4m_pipeline.commands import (
    artifact_commands,
    convert_command,
    data_commands,
    evaluate_commands,
    refine_commands,
    run_commands,
    stage_commands,
    start_commands,
)
from s4m_pipeline.commands.options import example
from s4m_pipeline.console.printable import echo
from s4m_pipeline.errors import INTERRUPTED


def build_app() -> typer.Typer:
    """All commands; those of stages come from the registry as it is now."""
    app = typer.Typer(
        name="s4m",
        help="Offline pseudo-labelling for instance segmentation.\n\n"
        "From a few images with masks and many without to a model trained on both. Each stage is a "
        "command and leaves an artifact; 's4m run' makes all of them.",
        epilog=example("run -c run.yaml"),
        no_args_is_help=True,
        add_completion=False,
        rich_markup_mode="markdown",
        pretty_exceptions_enable=False,
    )
    app.callback()(_root)
    run_commands.add_run_to(app)
    own: dict[str, Callable[..., Any]] = {
        "calibrate": refine_commands.calibrate,
        "refine": refine_commands.refine,
        "evaluate": evaluate_commands.evaluate,
        "train-student": stage_commands.train_student,
    }
    stage_commands.add_to(app, own)
    refine_commands.add_to(app)
    evaluate_commands.add_to(app)
    run_commands.add_to(app)
    start_commands.add_to(app)
    data_commands.add_to(app)
    artifact_commands.add_to(app)
    convert_command.add_to(app)
    return app


def _print_version(value: bool) -> None:
    if value:
        echo(f"s4m {__version__}")
        raise typer.Exit


def _root(
    version: bool = typer.Option(
        False, "--version", callback=_print_version, is_eager=True, help="Show the version."
    ),
    verbose: bool = typer.Option(
        False, "--verbose", "-v", help="Show the traceback of an error; may be given anywhere."
    ),
) -> None:
    del version, verbose


def call(arguments: list[str]) -> Any:
    """Carry out a command line; gives its exit code or None. Errors pass through."""
    try:
        return build_app()(arguments, standalone_mode=False)
    except typer.Abort:
        return INTERRUPTED
