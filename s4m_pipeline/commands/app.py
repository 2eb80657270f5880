"""The ``s4m`` command's parts put together."""

from __future__ import annotations

from typing import Any

import typer

from s4m_pipeline import __version__
from s4m_pipeline.commands import (
    artifact_commands,
    convert_command,
    data_commands,
    other_commands,
    stage_commands,
)
from s4m_pipeline.errors import INTERRUPTED

app = typer.Typer(
    name="s4m",
    help="Offline pseudo-labelling for instance segmentation.\n\n"
    "From a few images with masks and many without to a model trained on both. Each stage is a "
    "command and leaves an artifact; 's4m run' makes all of them.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
)
stage_commands.add_to(app)
other_commands.add_to(app)
data_commands.add_to(app)
artifact_commands.add_to(app)
convert_command.add_to(app)


def _print_version(value: bool) -> None:
    if value:
        typer.echo(f"s4m {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: bool = typer.Option(
        False, "--version", callback=_print_version, is_eager=True, help="Show the version."
    ),
) -> None:
    del version


def call(arguments: list[str]) -> Any:
    """Carry out a command line; its exit code, or None. Errors pass through."""
    try:
        return app(arguments, standalone_mode=False)
    except typer.Abort:
        return INTERRUPTED
