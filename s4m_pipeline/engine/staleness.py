"""Why an artifact is not the one that a configuration asks for, in words."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from s4m_pipeline.config import RunConfig
from s4m_pipeline.configs import model_config_digest, model_names
from s4m_pipeline.engine.registry import STAGES
from s4m_pipeline.errors import UsageError

CONTENTS = {
    "labelled": "the labelled images changed",
    "unlabelled": "the unlabelled images changed",
    "validation": "the validation images changed",
    "file": "the images of --images and --annotations changed",
    "segmenter": "the segmenter's weights changed",
    "weights": "the weights to start from changed",
    "checkpoint": "the checkpoint changed",
}
"""What an input that goes by its content's digest is called."""

_SHOWN = 12
_CONTENT = re.compile(r"[0-9a-f]{64}")
_DIGEST = re.compile(r"[0-9a-f]{16,}")
_UNSET = object()


def describe_difference(
    stage: str, config: RunConfig, before: Mapping[str, Any], wanted: Mapping[str, Any]
) -> str:
    """Name what differs between what two artifacts of a stage were asked for.

    Args:
        stage: The stage's name.
        config: The run, for the names of its models.
        before: ``config`` and ``inputs`` of one that is there.
        wanted: Those that the run asks for.

    Returns:
        The reasons in one line; empty where nothing differs.
    """
    reasons = []
    for key, old, new in _changes(before["config"], wanted["config"]):
        if key == "rule":
            reasons.append(STAGES[stage].rule)
        elif key.endswith(".model"):
            reasons.append(_told_model(key, old, new, config))
        else:
            reasons.append(f"{key}: {_shown(old)} -> {_shown(new)}")
    for key, old, new in _changes(before["inputs"], wanted["inputs"]):
        if key in CONTENTS and _is_content(old) and _is_content(new):
            reasons.append(CONTENTS[key])
        else:
            reasons.append(f"{key}: {_shown(old)} -> {_shown(new)}")
    return "; ".join(reasons)


def flat_settings(values: Any, prefix: str = "") -> dict[str, Any]:
    """Nested settings as one mapping of dotted keys."""
    if not isinstance(values, dict):
        return {prefix: values}
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat.update(flat_settings(value, f"{prefix}.{key}" if prefix else str(key)))
    return flat


def _changes(before: Any, wanted: Any) -> Iterator[tuple[str, Any, Any]]:
    """Keys whose values differ, with both of them."""
    old, new = flat_settings(before), flat_settings(wanted)
    for key in sorted(old.keys() | new.keys()):
        one, other = old.get(key, _UNSET), new.get(key, _UNSET)
        if one != other:
            yield key, one, other


def _told_model(key: str, old: Any, new: Any, config: RunConfig) -> str:
    """Name both models where they are known, and else the one that the run has."""
    section = getattr(config, key.split(".")[0], None)
    name = getattr(section, "model", None)
    if name is None or not _is_content(new):
        return f"{key}: {_shown(old)} -> {_shown(new)}"
    former = _shipped_model(old)
    return f"{key}: another content ({name})" if former is None else f"{key}: {former} -> {name}"


def _shipped_model(digest: Any) -> str | None:
    for name in model_names():
        try:
            if model_config_digest(name) == digest:
                return name
        except UsageError:  # a file of its weights is not there
            continue
    return None


def _is_content(value: Any) -> bool:
    return isinstance(value, str) and _CONTENT.fullmatch(value) is not None


def _shown(value: Any) -> str:
    """A value as the run's file has it, digests cut short."""
    if value is _UNSET:
        return "not set"
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    return _DIGEST.sub(lambda found: found.group()[:_SHOWN], str(value))
