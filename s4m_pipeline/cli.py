"""The ``s4m`` command: errors and interrupts turned into messages and exit codes.

The commands are imported inside a function, so that Ctrl-C during the imports is handled too.
"""

from __future__ import annotations

import codecs
import errno
import gc
import io
import os
import signal
import sys
import tempfile
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from s4m_pipeline.console.interrupts import Interrupts
from s4m_pipeline.console.printable import printable
from s4m_pipeline.engine.registry import STAGES
from s4m_pipeline.errors import FAILED, INTERRUPTED, WRONG_USE, S4MError
from s4m_pipeline.system_errors import SHARED_MEMORY, told

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
NO_PATH = (errno.ENAMETOOLONG, errno.ELOOP)
"""Their numbers where Python has no class for them: too long, and links that lead in a circle."""

RESUMED = ("run", "demo", "rethreshold")
"""Commands, beside those of stages, that resume where they were interrupted."""
VERBOSE = ("--verbose", "-v")

BUG = "This is a bug in s4m; --verbose shows where."


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit with its code."""
    gc.set_threshold(OBJECTS_TO_COLLECT)
    alone = arguments is None  # in a process of its own
    words = sys.argv[1:] if arguments is None else arguments
    arguments = [word for word in words if word not in VERBOSE]
    interrupts = Interrupts(_interrupted(arguments))
    with _taken(interrupts, alone):
        if alone:
            _take_names_as_utf8()
        _show_what_can_be_shown()
        code = _call(arguments, interrupts, verbose=len(arguments) < len(words))
        interrupts.end_with(code)
    sys.exit(code)


@contextmanager
def _taken(interrupts: Interrupts, alone: bool) -> Iterator[None]:
    """Have signals taken: to the process's end, or for a while where others called this."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    interrupts.take()
    yield
    if not alone:
        for number, handler in before.items():
            signal.signal(number, handler)


def _take_names_as_utf8() -> None:
    """Start anew in Python's UTF-8 mode where the locale has names of files in another encoding.

    Under such a locale no file could be opened whose name the locale cannot write, and one image
    set would have other names on another machine. The encoding of names is set at Python's start.
    """
    if codecs.lookup(sys.getfilesystemencoding()).name == "utf-8":
        return
    if os.environ.get("PYTHONUTF8") != "1":  # else it has been started anew, to no avail
        environment = {**os.environ, "PYTHONUTF8": "1"}
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], environment)


def _show_what_can_be_shown() -> None:
    """Have what a terminal cannot show, in names of files and classes, escaped; not fail for it."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _call(arguments: list[str], interrupts: Interrupts, verbose: bool) -> int:
    result: object
    try:
        from s4m_pipeline.commands.app import call

        result = call(arguments)
    except KeyboardInterrupt:
        result = INTERRUPTED
    except Exception as error:
        if not interrupts.came:
            return _failed(error, arguments, verbose)
        if verbose:
            traceback.print_exception(error)
        result = INTERRUPTED  # what fails after it, such as a worker that got the signal too
    if result == INTERRUPTED:  # by an exception, or already turned into a code by typer
        interrupts.tell()
    return result if isinstance(result, int) else 0


def _failed(error: Exception, arguments: list[str], verbose: bool) -> int:
    """Report an error; what no part of s4m has put into words of its own is told as a bug."""
    if refused := told(error, _places(arguments)):
        return _report(error, refused.exit_code, str(refused), verbose)
    if isinstance(error, S4MError):
        return _report(error, error.exit_code, str(error), verbose)
    if isinstance(error, OSError):
        where = "" if error.filename is None else f"{error.filename}: "
        is_wrong = isinstance(error, WRONG_PATH) or error.errno in NO_PATH
        code = WRONG_USE if is_wrong else FAILED
        return _report(error, code, f"{where}{error.strerror or error}", verbose)
    show = getattr(error, "show", None)  # wrong use, as click or typer's copy of it says
    if callable(show):
        show()
        return int(getattr(error, "exit_code", FAILED))
    text = (str(error).splitlines() or [""])[0]
    return _report(error, FAILED, f"{type(error).__name__}: {text}\n{BUG}", verbose)


def _places(arguments: list[str]) -> list[Path]:
    """Where a command may have been writing: what its line names, this folder, temporary files."""
    values = (word.rpartition("=")[2] for word in arguments)
    named = [Path(value) for value in values if value and not value.startswith("-")]
    return [*named, Path.cwd(), Path(tempfile.gettempdir()), SHARED_MEMORY]


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
        _to_stderr(printable("".join(traceback.format_exception(error)).rstrip()))
    _to_stderr(printable(f"error: {message}"))
    return code


def _to_stderr(message: str) -> None:
    print(message, file=sys.stderr)


if __name__ == "__main__":
    main()
