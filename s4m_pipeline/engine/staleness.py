"""How an existing artifact differs from the one that a configuration asks for."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from s4m_pipeline.artifacts.manifest import Manifest
from s4m_pipeline.config import RunConfig
from s4m_pipeline.configs import model_config_digest, model_names
from s4m_pipeline.engine.registry import STAGES
from s4m_pipeline.engine.run import Run
from s4m_pipeline.engine.stage import Stage
from s4m_pipeline.errors import UsageError

CONTENTS = {
    "labelled": "the labelled images changed",
    "unlabelled": "the unlabelled images changed",
    "validation": "the validation images changed",
    "file": "the images of --images and --annotations changed",
    "segmenter": "the segmenter's weights changed",
    "weights": "the weights to start from changed",
    "checkpoint": "the checkpoint changed",
    "teachers": "the checkpoints of pseudo_label.teachers changed",
}
"""What to say of an input whose digest changed."""

_SHOWN = 12
"""Digits of a digest in a message."""
_CONTENT = re.compile(r"[0-9a-f]{64}")
_DIGEST = re.compile(r"[0-9a-f]{16,}")
_UNSET = object()


def describe_difference(
    stage: str, config: RunConfig, before: Mapping[str, Any], wanted: Mapping[str, Any]
) -> str:
    """Name the settings and inputs in which two artifacts of a stage differ.

    Args:
        stage: The stage's name.
        config: The run, for the names of its models.
        before: ``config`` and ``inputs`` of an existing artifact.
        wanted: ``config`` and ``inputs`` that the run asks for.

    Returns:
        The reasons in one line; empty where nothing differs.
    """
    reasons = []
    for key, old, new in _changes(before["config"], wanted["config"]):
        if key.rpartition(".")[2] == "rule":
            reasons.append(STAGES[stage].rule)
        elif key.endswith(".model"):
            reasons.append(_describe_model(key, old, new, config))
        else:
            reasons.append(f"{key}: {_shown(old)} -> {_shown(new)}")
    for key, old, new in _changes(before["inputs"], wanted["inputs"]):
        if key in CONTENTS and _is_content(old) and _is_content(new):
            reasons.append(CONTENTS[key])
        else:
            reasons.append(f"{key}: {_shown(old)} -> {_shown(new)}")
    return "; ".join(reasons)


def input_contents(run: Run, stage: Stage) -> dict[str, str]:
    """What a stage's input artifacts hold now, as `Manifest.input_contents`.

    Returns:
        Digests by input name.

    Raises:
        ArtifactError: An input's manifest is missing or damaged.
    """
    return {name: manifest.content for name, manifest in _input_manifests(run, stage, ()).items()}


def changed_inputs(
    run: Run, stage: Stage, contents: Mapping[str, str], leave_out: Collection[str] = ()
) -> list[str]:
    """Names of a stage's input artifacts that hold something else now.

    Args:
        run: The run.
        stage: The stage.
        contents: What they held: `Manifest.input_contents`.
        leave_out: Names of inputs that are not looked at.

    Raises:
        ArtifactError: An input's manifest is missing or damaged.
    """
    now = _input_manifests(run, stage, leave_out)
    return [
        name
        for name in sorted((now.keys() | contents.keys()) - set(leave_out))
        if name not in now or contents.get(name) not in now[name].contents
    ]


def _input_manifests(run: Run, stage: Stage, leave_out: Collection[str]) -> dict[str, Manifest]:
    return {
        name: run.store.manifest(upstream.name, run.fingerprint(upstream))
        for name, upstream in stage.upstream(run.config).items()
        if name not in leave_out
    }


def flat_settings(values: Any, prefix: str = "") -> dict[str, Any]:
    """Nested settings as one mapping of dotted keys."""
    if not isinstance(values, dict):
        return {prefix: values}
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat.update(flat_settings(value, f"{prefix}.{key}" if prefix else str(key)))
    return flat


def _changes(before: Any, wanted: Any) -> Iterator[tuple[str, Any, Any]]:
    """Keys whose values differ, with both values."""
    old, new = flat_settings(before), flat_settings(wanted)
    for key in sorted(old.keys() | new.keys()):
        one, other = old.get(key, _UNSET), new.get(key, _UNSET)
        if one != other:
            yield key, one, other


def _describe_model(key: str, old: Any, new: Any, config: RunConfig) -> str:
    """Name both models where the former one ships with the package, else the run's alone."""
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
    """A value as a run's file writes it, digests cut short."""
    if value is _UNSET:
        return "not set"
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    return _DIGEST.sub(lambda match: match.group()[:_SHOWN], str(value))
