"""All stages in order, and where each stands."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from s4m_pipeline.artifacts.manifest import Manifest
from s4m_pipeline.config import RunConfig
from s4m_pipeline.stages.base import Run, Stage
from s4m_pipeline.stages.evaluate import Evaluate
from s4m_pipeline.stages.perform import freshness, perform
from s4m_pipeline.stages.pseudo_label import PseudoLabel
from s4m_pipeline.stages.refine import Refine
from s4m_pipeline.stages.structure import Structure
from s4m_pipeline.stages.train_student import TrainStudent
from s4m_pipeline.stages.train_teacher import TrainTeacher


def stages_of(config: RunConfig) -> list[Stage]:
    """The stages that a configuration needs, in order."""
    stages: list[Stage] = []
    if config.teacher.structure_weight > 0 or config.student.structure_weight > 0:
        stages.append(Structure())
    stages += [TrainTeacher(), PseudoLabel(), Refine(), TrainStudent()]
    if config.data.validation is not None:
        stages += [Evaluate("teacher"), Evaluate("student")]
    return stages


def run_all(run: Run, stages: Sequence[Stage] = (), force: bool = False) -> dict[str, Manifest]:
    """Make stages' artifacts in order, skipping what is fresh.

    All of them are checked before the first one starts, so that a mistake in the last one's
    settings does not show after the first one's work.

    Args:
        run: The run.
        stages: The stages; all that the configuration needs by default.
        force: Make new versions.

    Returns:
        Manifests by the stages' keys.
    """
    stages = stages or stages_of(run.config)
    for stage in stages:
        run.fingerprint(stage)
        stage.check(run)
    return {stage.key: perform(run, stage, force) for stage in stages}


def status(run: Run) -> list[dict[str, Any]]:
    """Where each stage stands: ``stage``, ``state``, ``fingerprint``, ``why``, ``folder``."""
    rows = []
    for stage in stages_of(run.config):
        found = freshness(run, stage)
        rows.append(
            {
                "stage": label_of(stage),
                "state": found.state,
                "fingerprint": found.fingerprint,
                "why": found.why,
                "folder": str(run.store.folder(stage.name, found.fingerprint)),
            }
        )
    return rows


def label_of(stage: Stage) -> str:
    """A stage's name for tables; ``evaluate`` says of what."""
    return f"{stage.name} {stage.of}" if isinstance(stage, Evaluate) else stage.name
