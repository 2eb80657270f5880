"""Detections that an earlier evaluation stored, for another metric of the same checkpoint."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from s4m_pipeline.artifacts.manifest import Manifest, verify
from s4m_pipeline.engine.run import Run
from s4m_pipeline.engine.stage import Stage
from s4m_pipeline.engine.staleness import changed_inputs
from s4m_pipeline.errors import ArtifactError

DETECTIONS = "detections.json"


def stored_detections(run: Run, stage: Stage) -> list[dict[str, Any]] | None:
    """The detections of the same weights on the same images, if there are any.

    Args:
        run: The run.
        stage: The evaluation that needs them.

    Returns:
        COCO's result dicts; None unless an undamaged evaluation, of whatever metric, has them for
        every image.
    """
    folder = _folder_with_detections(run, stage)
    if folder is None:
        return None
    run.reporter.say(f"{stage.title}: takes the detections of {folder.name}")
    detections: list[dict[str, Any]] = json.loads((folder / DETECTIONS).read_bytes())
    return detections


def has_stored_detections(run: Run, stage: Stage) -> bool:
    """Whether `stored_detections` finds any; False where the weights are not there."""
    try:
        return _folder_with_detections(run, stage) is not None
    except ArtifactError:
        return False


def _folder_with_detections(run: Run, stage: Stage) -> Path | None:
    for name, fingerprint, done in reversed(run.store.artifacts()):
        if name != stage.name or not done:
            continue
        try:
            manifest = run.store.manifest(name, fingerprint)
        except ArtifactError:
            continue
        folder = run.store.folder(name, fingerprint)
        if _is_same(run, stage, manifest) and not verify(folder, manifest):
            return folder
    return None


def _is_same(run: Run, stage: Stage, manifest: Manifest) -> bool:
    """Whether an evaluation differs from the stage in its metric alone, and left out no image."""
    if _without_metric(manifest.config) != _without_metric(stage.settings(run.config)):
        return False
    if manifest.inputs != stage.inputs(run) or manifest.counts.get("quarantined"):
        return False
    return not changed_inputs(run, stage, manifest.input_contents)


def _without_metric(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in settings.items() if key != "metric"}
