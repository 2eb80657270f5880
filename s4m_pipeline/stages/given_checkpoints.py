"""Checkpoints that somebody gives by path: of another run, or converted."""

from __future__ import annotations

from pathlib import Path

from s4m_pipeline.artifacts.training_files import CHECKPOINT
from s4m_pipeline.engine.run import Run
from s4m_pipeline.errors import UsageError


def given_checkpoint(given: str, otherwise: str) -> Path:
    """The file at a path that is a checkpoint or the folder of a finished training.

    Args:
        given: The path.
        otherwise: What to say where nothing is there.

    Raises:
        UsageError: There is no checkpoint.
    """
    path = Path(given)
    if path.is_dir():
        if not (path / CHECKPOINT).is_file():
            raise UsageError(
                f"{given} holds no {CHECKPOINT}: it is not a finished training's folder"
            )
        return path / CHECKPOINT
    if not path.is_file():
        raise UsageError(otherwise)
    return path


def trusted_digest(run: Run, path: Path) -> str:
    """The digest of a file; refused where it lies in an artifact that says otherwise of it."""
    return run.store.digest_of_file(path)
