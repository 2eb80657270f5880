"""The few kinds of error a user can meet, each with its exit code.

Exit codes of every command: 0 done; 1 failed; 2 wrong use or configuration; 3 an artifact that is
stale, damaged or of another format version; 4 done, but images were set aside; 130 interrupted.
"""

from __future__ import annotations

import errno
import re
from pathlib import Path

DONE = 0
FAILED = 1
WRONG_USE = 2
BAD_ARTIFACT = 3
SET_ASIDE = 4
INTERRUPTED = 130


class S4MError(Exception):
    """A failure whose message (one to three lines) is meant for the user."""

    exit_code = FAILED


class UsageError(S4MError):
    """Wrong use, a wrong configuration, or input data that cannot be used."""

    exit_code = WRONG_USE


class ArtifactError(S4MError):
    """An artifact that is stale, damaged or of another format version.

    Args:
        message: For the user.
        folder: The artifact's folder, so that whoever knows the run can name the command.
    """

    exit_code = BAD_ARTIFACT

    def __init__(self, message: str, folder: Path | None = None) -> None:
        super().__init__(message)
        self.folder = folder


class FormatVersionError(ArtifactError):
    """An artifact of another format version."""


_NO_MEMORY = re.compile(
    r"CUDA error: out of memory|CU(BLAS|DNN)_STATUS_\w*ALLOC\w*_FAILED"
    r"|can't allocate memory|not enough memory|Cannot allocate memory|bad_alloc"
    r"|Insufficient memory"
)
"""How CUDA and its libraries, torch on a CPU, and OpenCV say that memory ran out."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out: Python's error or one of a library's, recognised without it."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    is_of_library = isinstance(error, RuntimeError) or type(error).__module__ == "cv2"
    return is_of_library and _NO_MEMORY.search(str(error)) is not None
