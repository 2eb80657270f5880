"""Read a run's YAML file with overrides, and check it.

Paths are relative to the file. Faults are reported all at once.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from s4m_pipeline.config import RANDOM, RunConfig
from s4m_pipeline.config_faults import describe_faults
from s4m_pipeline.errors import UsageError


def load_config(path: Path, overrides: Iterable[str] = ()) -> RunConfig:
    """Read and validate a run's file.

    Args:
        path: The YAML file.
        overrides: ``section.key=value`` strings; values are read as YAML.

    Returns:
        The run, its paths absolute.

    Raises:
        UsageError: The file is missing or not YAML, or settings are wrong (all are named).
    """
    try:
        text = path.read_text()
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{path}: not a text file in UTF-8") from error
    try:
        data = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise UsageError(f"{path}: not valid YAML: {_one_line(str(error))}") from error
    _refuse_other_content(path, data)
    for override in overrides:
        _apply_override(data, override)
    try:
        config = RunConfig.model_validate(data)
    except ValidationError as error:
        raise UsageError(f"{path}: {describe_faults(error)}") from error
    return _absolute(config, path.resolve().parent)


def _apply_override(data: dict[str, Any], override: str) -> None:
    key, equals, value = override.partition("=")
    if not equals or not key:
        raise UsageError(f"override '{override}' is not of the form section.key=value")
    *sections, last = key.split(".")
    target = data
    for name in sections:
        inner = target.setdefault(name, {})
        if not isinstance(inner, dict):
            raise UsageError(f"override '{override}': '{name}' is not a section")
        target = inner
    try:
        target[last] = yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise UsageError(f"override '{override}': its value is not valid YAML") from error


def _refuse_other_content(path: Path, data: Any) -> None:
    """Refuse YAML that is not a mapping of settings."""
    if data is None:
        raise UsageError(f"{path}: is empty; s4m init writes a run's file to start from")
    if not isinstance(data, dict):
        kind = "a list" if isinstance(data, list) else f"{data!r}"
        raise UsageError(f"{path}: expected settings (key: value), found {kind}")


def _absolute(config: RunConfig, base: Path) -> RunConfig:
    config.work_dir = base / config.work_dir.expanduser()
    for images in (config.data.labelled, config.data.unlabelled, config.data.validation):
        if images is None:
            continue
        images.images = base / images.images.expanduser()
        if images.annotations is not None:
            images.annotations = base / images.annotations.expanduser()
    checkpoint = config.segmenter.checkpoint
    if checkpoint is not None and _is_path(checkpoint, base):
        config.segmenter.checkpoint = str(base / Path(checkpoint).expanduser())
    for training in (config.teacher, config.student):
        if training.model.endswith(".py"):
            training.model = str(base / Path(training.model).expanduser())
        if training.weights not in (None, RANDOM):
            training.weights = str(base / Path(str(training.weights)).expanduser())
    return config


def _is_path(checkpoint: str, base: Path) -> bool:
    """Whether a checkpoint is a path: not ``random`` and not a Hugging Face id (``org/name``)."""
    if (base / Path(checkpoint).expanduser()).exists():
        return True
    return (
        checkpoint != RANDOM and re.fullmatch(r"[\w-]+/[\w-]+(\.[\d][\w-]*)?", checkpoint) is None
    )


def _one_line(text: str) -> str:
    return " ".join(text.split())
