"""The page about a training: its curves, its log and its validation."""

from __future__ import annotations

from pathlib import Path

from s4m_pipeline.artifacts.manifest import read_manifest
from s4m_pipeline.engine.run import Run
from s4m_pipeline.review.report import stage_report

TITLES = {"train-teacher": "Teacher's training", "train-student": "Student's training"}


def write_training_page(run: Run, folder: Path, out: Path, limit: int) -> None:
    """Write the page.

    Args:
        run: The run.
        folder: The training's artifact.
        out: The HTML file to write.
        limit: Images to show at most; there are none on this page.
    """
    title = TITLES[read_manifest(folder).stage]
    stage_report(folder, {}, out, limit, run.config.seed, title=title)
