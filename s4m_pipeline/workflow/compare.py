"""Teacher, student, the student's last weights and later rounds, evaluated side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from s4m_pipeline.artifacts.manifest import Manifest
from s4m_pipeline.artifacts.training_files import LAST
from s4m_pipeline.config import RunConfig
from s4m_pipeline.engine.perform import check_stage, perform
from s4m_pipeline.engine.run import Run
from s4m_pipeline.errors import UsageError
from s4m_pipeline.stages.evaluate import Evaluate, evaluation_of
from s4m_pipeline.stages.trainings import training_of_round

ALL = "all"
"""The word for ``--of`` that stands for every model of a run."""


def evaluations(
    config: RunConfig, wanted: Evaluate, rounds: Sequence[int] = (), ends: Sequence[str] = ()
) -> dict[str, Evaluate]:
    """The evaluations that a command asks for, each an artifact of its own.

    Args:
        config: The run. A student without averaging has a single set of weights.
        wanted: The evaluation, with ``of`` as ``--of`` has it. For ``all``, each evaluation has its
            image set and metric.
        rounds: Rounds from 2 on whose students ``all`` includes.
        ends: Models that kept their best weights, of which ``all`` includes those at the end, too.

    Returns:
        Stages by what they evaluate. For ``all``: ``teacher``, ``student`` or ``student-averaged``
        and ``student-last``, ``student-2`` and so on, ``student-end`` for a training's end.

    Raises:
        UsageError: ``all`` without the averaged weights.
    """
    if wanted.of != ALL:
        return {wanted.of: evaluation_of(wanted.of, wanted)}
    if not wanted.averaged:
        raise UsageError("all weights are compared, the averaged ones too: leave out --no-averaged")
    names = [f"student-{number}" for number in rounds]
    later = {name: evaluation_of(name, wanted) for name in names}
    later |= {f"{name}-end": evaluation_of(name, replace(wanted, end=True)) for name in ends}
    teacher, student = evaluation_of("teacher", wanted), evaluation_of("student", wanted)
    if not config.student.ema:
        return {"teacher": teacher, "student": student, **later}
    last = replace(student, averaged=False)
    return {"teacher": teacher, "student-averaged": student, "student-last": last, **later}


def trained_rounds(run: Run) -> list[int]:
    """The rounds from 2 on whose students have been trained with the run's configuration."""
    rounds: list[int] = []
    number = 2
    while True:
        training = training_of_round(number)
        if not run.store.is_complete(training.name, run.fingerprint(training)):
            return rounds
        rounds.append(number)
        number += 1


def kept_ends(run: Run, rounds: Sequence[int] = ()) -> list[str]:
    """The models whose trainings have their last weights beside the best ones.

    Args:
        run: The run.
        rounds: The rounds from 2 on that have been trained.
    """
    trainings = {"teacher": 0, "student": 1, **{f"student-{number}": number for number in rounds}}
    folders = {name: run.folder(training_of_round(number)) for name, number in trainings.items()}
    return [name for name, folder in folders.items() if (folder / LAST).is_file()]


def evaluate_all(run: Run, stages: dict[str, Evaluate], force: bool = False) -> dict[str, Manifest]:
    """Make evaluations, after a check that all models are there.

    Args:
        run: The run.
        stages: Those of `evaluations`.
        force: Make new versions.

    Returns:
        Manifests by the same names.

    Raises:
        UsageError: A model has not been trained, or there is no image set to evaluate on.
        ArtifactError: A training is stale or damaged.
    """
    for stage in stages.values():
        check_stage(run, stage, force)
        if not run.store.is_complete(stage.name, run.fingerprint(stage)):
            for training in stage.upstream(run.config).values():
                run.require(training)
    return {name: perform(run, stage, force) for name, stage in stages.items()}
