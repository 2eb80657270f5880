"""All stages of a run in order, and where each stands."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from s4m_pipeline.artifacts.manifest import Manifest
from s4m_pipeline.config import CROSS_FIT, RunConfig
from s4m_pipeline.engine.perform import check_stage, freshness, perform
from s4m_pipeline.engine.registry import STAGES, stage_class, stage_named
from s4m_pipeline.engine.run import Run
from s4m_pipeline.engine.stage import Stage
from s4m_pipeline.errors import UsageError


def stages_of(config: RunConfig) -> list[Stage]:
    """The stages that a configuration needs for the first round, in order."""
    return stages_of_round(config, 1)


def stages_of_round(config: RunConfig, number: int) -> list[Stage]:
    """The stages of a round, in order. Some belong to the first round alone.

    It is the registry's order, but what a stage is made of comes before it: the labels of a refresh
    follow the part of the training whose weights make them.
    """
    found = [stage for name in STAGES for stage in stage_class(name).of_round(config, number)]
    wanted, placed = {stage.title for stage in found}, dict[str, Stage]()

    def place(stage: Stage) -> None:
        if stage.title not in placed:
            for upstream in stage.upstream(config).values():
                if upstream.title in wanted:
                    place(upstream)
            placed[stage.title] = stage

    for stage in found:
        place(stage)
    return list(placed.values())


def stages_of_rounds(config: RunConfig, rounds: int) -> list[Stage]:
    """The stages of all rounds up to a number, in order (UsageError where it is below 1)."""
    if rounds < 1:
        raise UsageError(f"--rounds is {rounds}; it must be at least 1")
    numbers = range(1, rounds + 1)
    return [stage for number in numbers for stage in stages_of_round(config, number)]


def calibration_stages(config: RunConfig) -> list[Stage]:
    """The stages of ``s4m calibrate``, whether or not the run needs them."""
    section = config.pseudo_label
    needed = section.judged or CROSS_FIT in section.teachers
    if config.refine.policy == "none" and needed:
        return [stage_named("cross-fit")]  # there is no policy to measure
    return [stage_named("cross-fit"), stage_named("calibrate")]


def run_all(run: Run, stages: Sequence[Stage] = (), force: bool = False) -> dict[str, Manifest]:
    """Make stages' artifacts in order, skipping what is fresh.

    All of them are checked before the first one starts, so that a mistake in the settings of the
    last one shows at once.

    Args:
        run: The run.
        stages: The stages; all that the configuration needs by default.
        force: Make new versions.

    Returns:
        Manifests by the stages' titles.
    """
    stages = stages or stages_of(run.config)
    for stage in stages:
        run.fingerprint(stage)
        check_stage(run, stage, force)
    return {stage.title: perform(run, stage, force) for stage in stages}


def status(run: Run) -> list[dict[str, Any]]:
    """Where each stage stands: ``stage``, ``state``, ``fingerprint``, ``why``, ``folder``."""
    rows = []
    stages = stages_of(run.config)
    for number in begun_rounds(run):
        stages += stages_of_round(run.config, number)
    answers: dict[str, str] = {}
    for stage in stages:
        standing = freshness(run, stage, answers)
        rows.append(
            {
                "stage": stage.title,
                "state": standing.state,
                "fingerprint": standing.fingerprint,
                "why": standing.why,
                "folder": str(run.store.folder(stage.name, standing.fingerprint)),
            }
        )
    return rows


def begun_rounds(run: Run) -> Iterator[int]:
    """The rounds after the first that have been begun, with these settings or others."""
    number = 2
    while _is_begun(run, number):
        yield number
        number += 1


def _is_begun(run: Run, number: int) -> bool:
    stage = stage_named("pseudo-label", number)
    fingerprint = run.fingerprint(stage)
    return (
        run.store.is_begun(stage.name, fingerprint)
        or run.store.is_complete(stage.name, fingerprint)
        or run.store.latest(stage.name, stage.pointer) is not None
    )
