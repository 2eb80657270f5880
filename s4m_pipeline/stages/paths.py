"""The files and folders that a run's configuration names, looked for before anything is read."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from s4m_pipeline.config import RANDOM, RunConfig
from s4m_pipeline.errors import UsageError


def check_paths(config: RunConfig) -> None:
    """Refuse a run of which several paths are missing, naming all of them.

    One that is missing alone is told by whoever needs it, with a hint of its own.

    Raises:
        UsageError: Two or more are missing.
    """
    missing = [f"  {name}: {path}" for name, path in _paths(config) if not path.exists()]
    if len(missing) > 1:
        raise UsageError("\n".join([f"{len(missing)} paths are missing:", *missing]))


def _paths(config: RunConfig) -> Iterator[tuple[str, Path]]:
    """Settings that are paths on this machine, with their values."""
    for name in ("labelled", "unlabelled", "validation"):
        section = getattr(config.data, name)
        for key in ("images", "annotations"):
            path = None if section is None else getattr(section, key)
            if path is not None:
                yield f"data.{name}.{key}", path
    checkpoint = config.segmenter.checkpoint
    if checkpoint is not None and Path(checkpoint).is_absolute():
        yield "segmenter.checkpoint", Path(checkpoint)
    for name in ("teacher", "student"):
        weights = getattr(config, name).weights
        if weights not in (None, RANDOM):
            yield f"{name}.weights", Path(weights)
