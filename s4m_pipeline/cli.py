"""The ``s4m`` command: its parts put together, and errors turned into messages and exit codes."""

from __future__ import annotations

import sys
import traceback

import typer

from s4m_pipeline import __version__
from s4m_pipeline.commands import artifact_commands, data_commands, other_commands, stage_commands
from s4m_pipeline.errors import FAILED, INTERRUPTED, S4MError

app = typer.Typer(
    name="s4m",
    help="Offline pseudo-labelling for instance segmentation.\n\n"
    "From a few images with masks and many without to a model trained on both. Each stage is a "
    "command and leaves an artifact; 's4m run' makes all of them.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
)
stage_commands.add_to(app)
other_commands.add_to(app)
data_commands.add_to(app)
artifact_commands.add_to(app)


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


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit with its code."""
    arguments = sys.argv[1:] if arguments is None else arguments
    sys.exit(_call(arguments))


def _call(arguments: list[str]) -> int:
    try:
        result = app(arguments, standalone_mode=False)
    except S4MError as error:
        return _tell(error, error.exit_code, arguments)
    except (KeyboardInterrupt, typer.Abort):
        typer.echo("interrupted; the same command goes on from here", err=True)
        return INTERRUPTED
    except Exception as error:
        show = getattr(error, "show", None)  # wrong use, told by click (typer has one of its own)
        if callable(show):
            show()
            return int(getattr(error, "exit_code", FAILED))
        return _tell(error, FAILED, arguments)
    return result if isinstance(result, int) else 0


def _tell(error: Exception, code: int, arguments: list[str]) -> int:
    """Print an error's message, its traceback only when asked for."""
    if {"--verbose", "-v"} & set(arguments):
        traceback.print_exc()
    if isinstance(error, S4MError):
        typer.echo(f"error: {error}", err=True)
    else:
        text = (str(error).splitlines() or [""])[0]
        typer.echo(f"error: {type(error).__name__}: {text}", err=True)
        typer.echo("This is not your mistake; --verbose shows where it happened.", err=True)
    return code


if __name__ == "__main__":
    main()
