"""Teacher, student and the student's last weights, evaluated side by side."""

from __future__ import annotations

from collections.abc import Sequence

from s4m_pipeline.artifacts.manifest import Manifest
from s4m_pipeline.config import LabelledSet, RunConfig
from s4m_pipeline.engine.perform import check_stage, perform
from s4m_pipeline.engine.registry import training_of_round
from s4m_pipeline.engine.run import Run
from s4m_pipeline.errors import UsageError
from s4m_pipeline.stages.evaluate import Evaluate, evaluate_of

ALL = "all"


def evaluations(
    config: RunConfig,
    of: str = ALL,
    split: str = "validation",
    averaged: bool = True,
    source: LabelledSet | None = None,
    metric: str = "auto",
    reuse: bool = True,
    later: Sequence[int] = (),
) -> dict[str, Evaluate]:
    """The evaluations that a command asks for, each an artifact of its own.

    Args:
        config: The run; where its student is not averaged, that has one set of weights.
        of: ``all``, or as ``evaluate_of`` has it, as are the others.
        split: Which image set.
        averaged: Whether to take averaged weights; ``all`` takes both.
        source: The image set of ``split`` ``file``.
        metric: Which figures.
        reuse: Whether detections of another metric's evaluation may be taken.
        later: Rounds from 2 on whose students ``all`` takes too.

    Returns:
        Stages by what they evaluate: for ``all``, ``teacher``, ``student`` or ``student-averaged``
        and ``student-last``, and ``student-2`` and so on.

    Raises:
        UsageError: ``all`` without the averaged weights.
    """
    if of == ALL and not averaged:
        raise UsageError("all weights are compared, the averaged ones too: leave out --no-averaged")

    def evaluation(of: str, averaged: bool = True) -> Evaluate:
        return evaluate_of(of, split, averaged, source, metric, reuse)

    if of != ALL:
        return {of: evaluation(of, averaged)}
    students = {f"student-{number}": evaluation(f"student-{number}") for number in later}
    if not config.student.ema:
        return {"teacher": evaluation("teacher"), "student": evaluation("student"), **students}
    return {
        "teacher": evaluation("teacher"),
        "student-averaged": evaluation("student"),
        "student-last": evaluation("student", averaged=False),
        **students,
    }


def trained_rounds(run: Run) -> list[int]:
    """The rounds from 2 on whose students are trained, as the run's configuration asks for them."""
    done: list[int] = []
    number = 2
    while run.store.is_complete(
        training_of_round(number).name, run.fingerprint(training_of_round(number))
    ):
        done.append(number)
        number += 1
    return done


def evaluate_all(run: Run, stages: dict[str, Evaluate], force: bool = False) -> dict[str, Manifest]:
    """Make evaluations, once all that they evaluate is there.

    Args:
        run: The run.
        stages: What ``evaluations`` gave.
        force: Make new versions.

    Returns:
        Their manifests by the same names.

    Raises:
        UsageError: A training has not been done, or there is nothing to evaluate on.
        ArtifactError: A training is stale or damaged.
    """
    for stage in stages.values():
        check_stage(run, stage, force)
        if not run.store.is_complete(stage.name, run.fingerprint(stage)):
            for training in stage.upstream(run.config).values():
                run.require(training)
    return {name: perform(run, stage, force) for name, stage in stages.items()}
