"""Read a run's YAML file with overrides, and check it.

Paths are relative to the file. Faults are reported all at once.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from s4m_pipeline.config import CROSS_FIT, RANDOM, ROUNDS, RunConfig
from s4m_pipeline.config_faults import LONGEST_VALUE, describe_faults, readable
from s4m_pipeline.config_yaml import YamlError, read_yaml
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
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{path}: not a text file in UTF-8") from error
    try:
        data = read_yaml(text)
    except YamlError as error:
        raise UsageError(f"{path}: {error}") from error
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
    shown = f"override '{readable(override)}'"
    if not equals or not key:
        raise UsageError(f"{shown} is not of the form section.key=value")
    *sections, last = key.split(".")
    target = data
    for name in sections:
        inner = target.setdefault(name, {})
        if not isinstance(inner, dict):
            raise UsageError(f"{shown}: '{readable(name)}' is not a section")
        target = inner
    try:
        target[last] = read_yaml(value)
    except YamlError as error:
        raise UsageError(f"{shown}: {error}") from error


def _refuse_other_content(path: Path, data: Any) -> None:
    """Refuse YAML that is not a mapping of settings."""
    if data is None:
        raise UsageError(f"{path}: is empty; s4m init writes a run's file to start from")
    if not isinstance(data, dict):
        kind = "a list" if isinstance(data, list) else f"{data!r}"[:LONGEST_VALUE]
        raise UsageError(f"{path}: expected settings (key: value), found {kind}")


def _absolute(config: RunConfig, base: Path) -> RunConfig:
    config.work_dir = _located(config.work_dir, base, "work_dir")
    for name in ("labelled", "unlabelled", "validation"):
        images = getattr(config.data, name)
        if images is None:
            continue
        images.images = _located(images.images, base, f"data.{name}.images")
        if images.annotations is not None:
            images.annotations = _located(images.annotations, base, f"data.{name}.annotations")
    checkpoint = config.segmenter.checkpoint
    if checkpoint is not None:
        config.segmenter.checkpoint = _checkpoint(checkpoint, base)
    named = config.pseudo_label.teachers
    config.pseudo_label.teachers = [_teacher(name, base, config.work_dir) for name in named]
    for name in ("teacher", "student"):
        training = getattr(config, name)
        if training.model.endswith(".py"):
            training.model = str(_located(training.model, base, f"{name}.model"))
        if training.weights not in (None, RANDOM):
            training.weights = str(_located(training.weights, base, f"{name}.weights"))
    return config


def _located(path: str | Path, base: Path, setting: str) -> Path:
    """A path that a setting gives, relative to the run's file."""
    try:
        return base / Path(path).expanduser()
    except RuntimeError as error:  # ~name of somebody whom this machine does not know
        raise UsageError(f"{setting}: nobody's home folder is known for {str(path)!r}") from error


def _teacher(name: str, base: Path, work_dir: Path) -> str:
    """One of ``pseudo_label.teachers``: a word, a path, or an artifact of the work folder."""
    if name in (CROSS_FIT, ROUNDS):
        return name
    path = _located(name, base, "pseudo_label.teachers")
    if re.fullmatch(r"[a-z-]+/[0-9a-f]{16}", name) and not path.exists():
        return str(work_dir / name)
    return str(path)


def _checkpoint(checkpoint: str, base: Path) -> str:
    """A segmenter's checkpoint: a path, or as it is where it is ``random`` or a Hugging Face id."""
    path = _located(checkpoint, base, "segmenter.checkpoint")
    try:
        found = path.exists()
    except OSError:  # a name too long for a file system; whoever opens it says so
        found = False
    is_id = re.fullmatch(r"[\w-]+/[\w-]+(\.[\d][\w-]*)?", checkpoint) is not None
    return checkpoint if not found and (checkpoint == RANDOM or is_id) else str(path)
