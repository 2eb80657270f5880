"""What a run's score thresholds depend on: settings, files and artifacts, for fingerprints."""

from __future__ import annotations

from typing import Any

from s4m_pipeline.config import RunConfig
from s4m_pipeline.engine.registry import stage_named
from s4m_pipeline.engine.run import Run
from s4m_pipeline.engine.stage import Stage

THRESHOLD_SETTINGS = frozenset({"score", "thresholds", "precision", "min_area"})
THRESHOLD_INPUTS = frozenset({"labelled", "cross-fit"})
"""Settings and inputs that decide which predictions become labels, but not their masks."""


def threshold_settings(config: RunConfig) -> dict[str, Any]:
    """The settings that thresholds depend on."""
    section = config.pseudo_label
    if section.thresholds == "fixed":
        return {"score": section.score}
    if section.thresholds != "precision":
        return {"thresholds": section.thresholds}
    return {"thresholds": "precision", "precision": section.precision}


def threshold_sources(run: Run) -> dict[str, str]:
    """Digests of the input files that thresholds depend on."""
    if run.config.pseudo_label.thresholds == "fixed":
        return {}
    return {"labelled": run.images.labelled_digest()}


def threshold_upstream(config: RunConfig) -> dict[str, Stage]:
    """The input artifacts that thresholds depend on, beside the predictions themselves."""
    if not config.pseudo_label.judged:
        return {}
    return {"cross-fit": stage_named("cross-fit")}
