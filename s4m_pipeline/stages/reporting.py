"""The page about a stage's artifact."""

from __future__ import annotations

from pathlib import Path

from s4m_pipeline.errors import UsageError
from s4m_pipeline.stages.base import Run, Stage
from s4m_pipeline.stages.label_warnings import label_rates, messages, rate_rows
from s4m_pipeline.stages.pseudo_label import PseudoLabel
from s4m_pipeline.stages.refine import Refine
from s4m_pipeline.stages.train_student import TrainStudent
from s4m_pipeline.stages.train_teacher import TrainTeacher

_STAGES: tuple[type[Stage], ...] = (Refine, PseudoLabel, TrainTeacher, TrainStudent)


def write_stage_report(run: Run, name: str, out: Path, limit: int) -> None:
    """Write the page about the artifact that a run's configuration asks of a stage.

    Raises:
        UsageError: There is no report of such a stage, or its artifact has not been made.
    """
    from s4m_pipeline.review.rate_table import rate_table
    from s4m_pipeline.review.report import stage_report

    stage = next((kind() for kind in _STAGES if kind.name == name), None)
    if stage is None:
        known = ", ".join(kind.name for kind in _STAGES)
        raise UsageError(f"there is no report of '{name}', only of {known}")
    folder = run.require(stage)
    images, rates = {}, []
    if stage.name in (Refine.name, PseudoLabel.name):
        images = {record.id: record.path for record in run.images.unlabelled.images}
    if stage.name == Refine.name:
        found = label_rates(run, folder)
        rates.append(rate_table(rate_rows(found), messages(found)))
    score = run.config.pseudo_label.score
    stage_report(folder, images, out, limit, run.config.seed, score, rates)
