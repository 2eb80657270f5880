"""Pages about a run's predictions, and about its refined labels with their rates."""

from __future__ import annotations

from pathlib import Path

from s4m_pipeline.engine.reading import ShownPicture
from s4m_pipeline.engine.run import Run
from s4m_pipeline.labels.warnings import label_rates, messages, rate_rows
from s4m_pipeline.review.rate_table import rate_table
from s4m_pipeline.review.report import stage_report

PICTURES = 24
"""Images on the page where the caller does not say."""


def write_prediction_page(run: Run, folder: Path, out: Path, limit: int = PICTURES) -> None:
    """Write the page about a teacher's predictions.

    Args:
        run: The run.
        folder: The artifact with the predictions.
        out: The HTML file to write.
        limit: Images to show at most.
    """
    images = {record.id: ShownPicture(record) for record in run.images.unlabelled.images}
    stage_report(folder, images, out, limit, run.config.seed, run.config.pseudo_label.score)


def write_label_page(run: Run, refined: Path, out: Path, limit: int = PICTURES) -> None:
    """Write the page about refined labels.

    Args:
        run: The run.
        refined: The refine artifact's folder.
        out: The HTML file to write.
        limit: Images to show at most.
    """
    rates = label_rates(run, refined)
    tables = [rate_table(rate_rows(rates), messages(rates))]
    images = {record.id: ShownPicture(record) for record in run.images.unlabelled.images}
    score = run.config.pseudo_label.score
    stage_report(refined, images, out, limit, run.config.seed, score, tables)
