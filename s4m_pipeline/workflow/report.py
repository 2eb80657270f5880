"""The page about a stage's artifact."""

from __future__ import annotations

from pathlib import Path

from s4m_pipeline.engine.registry import OfRound, check_round
from s4m_pipeline.engine.run import Run
from s4m_pipeline.engine.stage import Stage
from s4m_pipeline.errors import UsageError
from s4m_pipeline.labels.page import write_label_page
from s4m_pipeline.stages.pseudo_label import PseudoLabel
from s4m_pipeline.stages.refine.stage import Refine
from s4m_pipeline.stages.train_student import TrainStudent
from s4m_pipeline.stages.train_teacher import TrainTeacher

_OF_ROUNDS: tuple[type[OfRound], ...] = (Refine, PseudoLabel, TrainStudent)


def write_stage_report(run: Run, name: str, out: Path, limit: int, number: int = 1) -> None:
    """Write the page about the artifact that a run's configuration asks of a stage.

    Args:
        run: The run.
        name: The stage's name.
        out: The HTML file to write.
        limit: Images to show at most.
        number: Of which round, from 1.

    Raises:
        UsageError: There is no report of such a stage or round, or its artifact has not been made.
    """
    from s4m_pipeline.review.report import stage_report

    stage = _stage(name, number)
    folder = run.require(stage)
    if stage.name == Refine.name:
        write_label_page(run, folder, out, limit)
        return
    images = {}
    if stage.name == PseudoLabel.name:
        images = {record.id: record.path for record in run.images.unlabelled.images}
    score = run.config.pseudo_label.score
    stage_report(folder, images, out, limit, run.config.seed, score, [])


def _stage(name: str, number: int) -> Stage:
    """The stage of a name, of a round."""
    check_round(number)
    if name == TrainTeacher.name:
        if number > 1:
            raise UsageError(f"a round's teacher is the last one's student: there is one {name}")
        return TrainTeacher()
    for kind in _OF_ROUNDS:
        if kind.name == name:
            return kind(number)
    known = ", ".join([TrainTeacher.name, *(kind.name for kind in _OF_ROUNDS)])
    raise UsageError(f"there is no report of '{name}', only of {known}")
