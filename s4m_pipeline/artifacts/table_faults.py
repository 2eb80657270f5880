"""Errors about tables that cannot be used. Light: whoever meets one has Arrow already."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from s4m_pipeline.errors import ArtifactError


def damaged(path: Path, what: str) -> ArtifactError:
    """The error of a table that cannot be used, with the command that makes its artifact anew."""
    stage = path.resolve().parent.parent.parent.name
    return ArtifactError(
        f"{path}: damaged ({what}).\nMake it again with: s4m {stage} -c RUN.yaml --force"
    )


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
        raise ArtifactError(f"{path}: {what} ({said[:200]})") from error
