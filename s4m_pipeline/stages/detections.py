"""Detections that an earlier evaluation left, for another metric of the same checkpoint."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from s4m_pipeline.artifacts.manifest import Manifest, verify
from s4m_pipeline.engine.run import Run
from s4m_pipeline.engine.stage import Stage
from s4m_pipeline.errors import ArtifactError

DETECTIONS = "detections.json"


def stored_detections(run: Run, stage: Stage) -> list[dict[str, Any]] | None:
    """Find detections of the same weights on the same images.

    Args:
        run: The run.
        stage: The evaluation that needs them.

    Returns:
        COCO's result dicts; None where no undamaged evaluation of any metric has them, or where
        images were set aside in it.
    """
    folder = _folder_with_detections(run, stage)
    if folder is None:
        return None
    run.reporter.say(f"{stage.title}: takes the detections of {folder.name}")
    detections: list[dict[str, Any]] = json.loads((folder / DETECTIONS).read_bytes())
    return detections


def has_stored_detections(run: Run, stage: Stage) -> bool:
    """Whether ``stored_detections`` finds any, as long as the weights themselves are there."""
    try:
        return _folder_with_detections(run, stage) is not None
    except ArtifactError:
        return False


def _folder_with_detections(run: Run, stage: Stage) -> Path | None:
    for name, mark, done in reversed(run.store.artifacts()):
        if name != stage.name or not done:
            continue
        try:
            manifest = run.store.manifest(name, mark)
        except ArtifactError:
            continue
        folder = run.store.folder(name, mark)
        if _is_same(run, stage, manifest) and not verify(folder, manifest):
            return folder
    return None


def _is_same(run: Run, stage: Stage, manifest: Manifest) -> bool:
    """Whether an evaluation differs from the stage in its metric only, and left nothing out."""
    wanted = stage.settings(run.config)
    alike = {key: value for key, value in manifest.config.items() if key != "metric"}
    if alike != {key: value for key, value in wanted.items() if key != "metric"}:
        return False
    if manifest.inputs != stage.inputs(run) or manifest.counts.get("quarantined"):
        return False
    return all(
        run.store.manifest(above.name, run.fingerprint(above)).content
        == manifest.input_contents.get(name)
        for name, above in stage.upstream(run.config).items()
    )
