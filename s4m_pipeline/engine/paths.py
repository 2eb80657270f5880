"""Checks that the files and folders in a run's configuration exist, before anything is read."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from s4m_pipeline.config import RANDOM, RunConfig
from s4m_pipeline.errors import UsageError


def check_paths(config: RunConfig) -> None:
    """Refuse a run whose paths are missing, and name the settings of all of them.

    Raises:
        UsageError: One or more are missing, or a folder of images is a file.
    """
    missing = {name: path for name, path in _paths(config) if not path.exists()}
    if not missing:
        _check_folders(config)
        return
    first = next(iter(missing))
    message = f"{first} does not exist: {missing[first]}"
    if len(missing) > 1:
        message += f"\nNor do {len(missing) - 1} more: {', '.join(list(missing)[1:])}"
    raise UsageError(message)


def _check_folders(config: RunConfig) -> None:
    for name, path in _paths(config):
        if name.endswith(".images") and not path.is_dir():
            raise UsageError(f"{name} is a file, not a folder: {path}")


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
