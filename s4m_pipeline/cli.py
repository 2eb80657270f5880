"""The ``s4m`` command: its parts put together, and errors turned into messages and exit codes."""

from __future__ import annotations

import gc
import signal
import sys
import threading
import traceback

import typer

from s4m_pipeline import __version__
from s4m_pipeline.commands import (
    artifact_commands,
    convert_command,
    data_commands,
    other_commands,
    stage_commands,
)
from s4m_pipeline.errors import FAILED, INTERRUPTED, WRONG_USE, S4MError, is_out_of_memory

OBJECTS_TO_COLLECT = 50_000
"""New objects before Python looks for unreachable cycles: imports make many, and no garbage."""

WRONG_PATH = (
    FileNotFoundError,
    FileExistsError,
    IsADirectoryError,
    NotADirectoryError,
    PermissionError,
)
"""Errors of the system that a path given by the user is to blame for; others are failures."""

TOO_LARGE = (
    "Memory ran out. Lower batch_size, of the stage's section or of segmenter, or the size of the\n"
    "images: segmenter.image_size, or the scale in the model's config."
)

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


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit with its code."""
    gc.set_threshold(OBJECTS_TO_COLLECT)
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, _interrupt)
    arguments = sys.argv[1:] if arguments is None else arguments
    sys.exit(_call(arguments))


def _interrupt(number: int, frame: object) -> None:
    """Treat a request to end like Ctrl-C, so that workers are ended and nothing is lost."""
    del number, frame
    raise KeyboardInterrupt


def _call(arguments: list[str]) -> int:
    try:
        result = app(arguments, standalone_mode=False)
    except S4MError as error:
        return _tell(error, error.exit_code, str(error), arguments)
    except (KeyboardInterrupt, typer.Abort):
        result = INTERRUPTED
    except OSError as error:
        where = "" if error.filename is None else f"{error.filename}: "
        code = WRONG_USE if isinstance(error, WRONG_PATH) else FAILED
        return _tell(error, code, f"{where}{error.strerror or error}", arguments)
    except Exception as error:
        show = getattr(error, "show", None)  # wrong use, told by click (typer has one of its own)
        if callable(show):
            show()
            return int(getattr(error, "exit_code", FAILED))
        text = (str(error).splitlines() or [""])[0]
        advice = TOO_LARGE if is_out_of_memory(error) else "A fault of s4m; --verbose shows where."
        return _tell(error, FAILED, f"{type(error).__name__}: {text}\n{advice}", arguments)
    if result == INTERRUPTED:  # by an exception, or already turned into a code by typer
        typer.echo("interrupted; started again without --force, it goes on from here", err=True)
    return result if isinstance(result, int) else 0


def _tell(error: Exception, code: int, message: str, arguments: list[str]) -> int:
    """Print an error's message, its traceback only when asked for."""
    if {"--verbose", "-v"} & set(arguments):
        traceback.print_exception(error)
    typer.echo(f"error: {message}", err=True)
    return code


if __name__ == "__main__":
    main()
