"""The ``s4m`` command: errors and interrupts turned into messages and exit codes.

The commands are imported inside a function, so that Ctrl-C during the imports is handled too.
"""

from __future__ import annotations

import gc
import signal
import sys
import threading
import traceback

from s4m_pipeline.engine.registry import STAGES
from s4m_pipeline.errors import FAILED, INTERRUPTED, WRONG_USE, S4MError, is_out_of_memory

OBJECTS_TO_COLLECT = 50_000
"""New objects before Python looks for garbage: imports make many objects and no garbage."""

WRONG_PATH = (
    FileNotFoundError,
    FileExistsError,
    IsADirectoryError,
    NotADirectoryError,
    PermissionError,
)
"""Errors of the operating system that come from a wrong path; all others are failures."""

RESUMED = ("run", "demo", "rethreshold")
"""Commands, beside those of stages, that resume where they were interrupted."""
VERBOSE = ("--verbose", "-v")

TOO_LARGE = (
    "Memory ran out. Lower batch_size (in the stage's section or in segmenter), or the size of\n"
    "the images (segmenter.image_size, or the scale in the model's config)."
)
BUG = "This is a bug in s4m; --verbose shows where."


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit with its code."""
    gc.set_threshold(OBJECTS_TO_COLLECT)
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, _interrupt)
    words = sys.argv[1:] if arguments is None else arguments
    arguments = [word for word in words if word not in VERBOSE]
    sys.exit(_call(arguments, verbose=len(arguments) < len(words)))


def _interrupt(number: int, frame: object) -> None:
    """Treat SIGTERM like Ctrl-C, so that workers are ended and nothing is lost."""
    del number, frame
    raise KeyboardInterrupt


def _call(arguments: list[str], verbose: bool) -> int:
    result: object
    try:
        from s4m_pipeline.commands.app import call

        result = call(arguments)
    except S4MError as error:
        return _report(error, error.exit_code, str(error), verbose)
    except KeyboardInterrupt:
        result = INTERRUPTED
    except OSError as error:
        where = "" if error.filename is None else f"{error.filename}: "
        code = WRONG_USE if isinstance(error, WRONG_PATH) else FAILED
        return _report(error, code, f"{where}{error.strerror or error}", verbose)
    except Exception as error:
        show = getattr(error, "show", None)  # wrong use, as click or typer's copy of it says
        if callable(show):
            show()
            return int(getattr(error, "exit_code", FAILED))
        text = (str(error).splitlines() or [""])[0]
        advice = TOO_LARGE if is_out_of_memory(error) else BUG
        return _report(error, FAILED, f"{type(error).__name__}: {text}\n{advice}", verbose)
    if result == INTERRUPTED:  # by an exception, or already turned into a code by typer
        _to_stderr(_interrupted(arguments))
    return result if isinstance(result, int) else 0


def _interrupted(arguments: list[str]) -> str:
    if not arguments or not _resumes(arguments[0]) or "--dry-run" in arguments:
        return "interrupted"
    how = " without --force" if "--force" in arguments else ""
    return f"interrupted; run it again{how} to resume from here"


def _resumes(command: str) -> bool:
    """Whether a command that is run again resumes where it was interrupted."""
    return command in RESUMED or (command in STAGES and STAGES[command].resumes)


def _report(error: Exception, code: int, message: str, verbose: bool) -> int:
    """Print an error's message, and its traceback with ``--verbose``."""
    if verbose:
        traceback.print_exception(error)
    _to_stderr(f"error: {message}")
    return code


def _to_stderr(message: str) -> None:
    print(message, file=sys.stderr)


if __name__ == "__main__":
    main()
