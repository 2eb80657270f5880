"""Options that several commands share."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from s4m_pipeline.console.printable import echo

if TYPE_CHECKING:
    from s4m_pipeline.engine.run import Run

ConfigOption = Annotated[
    Path, typer.Option("--config", "-c", help="The run's YAML file.", show_default=False)
]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(help="Settings to override: section.key=value ...", show_default=False),
]
Force = Annotated[bool, typer.Option("--force", help="Make a new version even if it is fresh.")]
DryRun = Annotated[
    bool,
    typer.Option(
        "--dry-run",
        help="Say what would run; one inference stage also forecasts its time from ten images.",
    ),
]
Refresh = Annotated[int, typer.Option(help="Of which refresh (student.refresh); 0 is none.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def example(words: str) -> str:
    """The last line of a command's help: a command line to try."""
    return f"Example: `s4m {words}`"


def tell_new_name(flag: str, command: str) -> None:
    """Say on standard error that a flag has become a command of its own."""
    echo(f"'s4m {flag}' is now 's4m {command}'; the next version drops the flag", err=True)


def open_run(config: Path, overrides: list[str] | None, called_as: str = "") -> Run:
    """Read a run's file, with settings overridden; the last argument is that of ``Run``."""
    from s4m_pipeline.config_file import load_config
    from s4m_pipeline.engine.run import Run

    called_with = shlex.join(["-c", str(config), *(overrides or [])])
    return Run(load_config(config, overrides or []), called_with=called_with, called_as=called_as)
