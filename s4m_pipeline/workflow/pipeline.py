"""All stages in order, and where each stands."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from s4m_pipeline.artifacts.manifest import Manifest
from s4m_pipeline.config import RunConfig
from s4m_pipeline.engine.perform import check_stage, freshness, perform
from s4m_pipeline.engine.run import Run
from s4m_pipeline.engine.stage import Stage
from s4m_pipeline.errors import UsageError
from s4m_pipeline.stages.calibration.calibrate import Calibrate
from s4m_pipeline.stages.calibration.cross_fit import CrossFit
from s4m_pipeline.stages.evaluate import Evaluate
from s4m_pipeline.stages.pseudo_label import PseudoLabel
from s4m_pipeline.stages.refine.stage import Refine
from s4m_pipeline.stages.structure import Structure
from s4m_pipeline.stages.train_student import TrainStudent
from s4m_pipeline.stages.train_teacher import TrainTeacher


def stages_of(config: RunConfig) -> list[Stage]:
    """The stages that a configuration needs for one round, in order."""
    stages: list[Stage] = []
    if config.teacher.structure_weight > 0 or config.student.structure_weight > 0:
        stages.append(Structure())
    stages += [TrainTeacher(), *calibration_stages(config)]
    stages += [PseudoLabel(), Refine(), TrainStudent()]
    if config.data.validation is not None:
        stages += [Evaluate("teacher"), Evaluate("student")]
    return stages


def stages_of_round(config: RunConfig, number: int) -> list[Stage]:
    """The stages of a round: all for the first, what recurs for a later one."""
    if number == 1:
        return stages_of(config)
    stages: list[Stage] = [PseudoLabel(number), Refine(number), TrainStudent(number)]
    if config.data.validation is not None:
        stages.append(Evaluate(f"student-{number}"))
    return stages


def stages_of_rounds(config: RunConfig, rounds: int) -> list[Stage]:
    """The stages of all rounds up to a number, in order (UsageError where it is below 1)."""
    if rounds < 1:
        raise UsageError(f"--rounds is {rounds}; it must be at least 1")
    numbers = range(1, rounds + 1)
    return [stage for number in numbers for stage in stages_of_round(config, number)]


def calibration_stages(config: RunConfig, wanted: bool = False) -> list[Stage]:
    """The stages of a calibration, as far as the configuration needs them.

    Args:
        config: The run.
        wanted: Give all of them, whether they are needed or not.
    """
    by_precision = config.pseudo_label.thresholds == "precision"
    if config.refine.policy == "none" and by_precision:
        return [CrossFit()]  # there is no policy to measure
    if wanted or config.refine.policy == "auto":
        return [CrossFit(), Calibrate()]
    return [CrossFit()] if by_precision else []


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
        check_stage(run, stage, force)
    return {stage.key: perform(run, stage, force) for stage in stages}


def status(run: Run) -> list[dict[str, Any]]:
    """Where each stage stands: ``stage``, ``state``, ``fingerprint``, ``why``, ``folder``."""
    rows = []
    stages = stages_of(run.config)
    for number in later_rounds(run):
        stages += stages_of_round(run.config, number)
    for stage in stages:
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
    """A stage's name for tables; ``evaluate`` says of what, a later round which."""
    return stage.title


def later_rounds(run: Run) -> Iterator[int]:
    """The rounds after the first that a run has begun, with these settings or others."""
    number = 2
    while _is_begun(run, number):
        yield number
        number += 1


def _is_begun(run: Run, number: int) -> bool:
    stage = PseudoLabel(number)
    mark = run.fingerprint(stage)
    return (
        run.store.is_begun(stage.name, mark)
        or run.store.is_complete(stage.name, mark)
        or run.store.latest(stage.name, stage.kind) is not None
    )
