"""Errors about tables that cannot be used. Light: whoever meets one has Arrow already."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from s4m_pipeline.errors import ArtifactError


def damaged(path: Path, what: str) -> ArtifactError:
    """The error of a table that cannot be used, with what to do about its artifact."""
    folder = path.parent.parent
    return ArtifactError(f"{path}: damaged ({what}).\n{set_aside(folder)}", folder)


def set_aside(folder: Path) -> str:
    """How to have an artifact made anew, for a message where the run is not known."""
    command = shlex.join(["s4m", "artifacts", "set-aside", str(folder)])
    return f"Set it aside with: {command}\nand run its stage again"


@contextmanager
def arrow_faults(path: Path, what: str = "damaged") -> Iterator[None]:
    """Turn what Arrow raises about a file into an error of ours.

    Arrow checks a file's structure as it goes along: bytes that are no text, numbers that are too
    large and places outside the file come up as Python's own errors.

    Args:
        path: The file.
        what: What to call it.

    Raises:
        ArtifactError: With the first line of what Arrow says.
    """
    import pyarrow as pa

    try:
        yield
    except (OSError, ValueError, OverflowError, LookupError, pa.ArrowException) as error:
        said = (str(error).splitlines() or [type(error).__name__])[0]
        raise ArtifactError(f"{path}: {what} ({said[:200]})", path.parent.parent) from error
