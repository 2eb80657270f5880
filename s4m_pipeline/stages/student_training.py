"""The work of ``train-student``: check and show the labels, then train."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from s4m_pipeline.artifacts.manifest import file_entry
from s4m_pipeline.artifacts.training_files import CHECKPOINT, PAGE
from s4m_pipeline.configs.losses import StudentLosses
from s4m_pipeline.data.image_set import reading_of
from s4m_pipeline.engine.run import Run
from s4m_pipeline.engine.stage import Outcome, Stage, label_categories
from s4m_pipeline.labels.page import write_label_page
from s4m_pipeline.labels.warnings import check_labels
from s4m_pipeline.stages.stage_training import train_stage
from s4m_pipeline.stages.training import start_checkpoint


def train_student(run: Run, stage: Stage, folder: Path) -> Outcome:
    """Train on labelled images and refined labels.

    Args:
        run: The run, all inputs of the stage made.
        stage: The stage, for its name and its inputs.
        folder: The artifact's folder.
    """
    section = run.config.student
    upstream = stage.upstream(run.config)
    refined = run.require(upstream["refined"])
    page = _look_at_labels(run, stage, refined, folder)
    structure = run.require(upstream["structure"]) if "structure" in upstream else None
    start = start_checkpoint(section)
    if "teacher" in upstream:
        start = run.require(upstream["teacher"]) / CHECKPOINT
    extra = {
        "unlabelled": _unlabelled(run, refined, structure is not None),
        "labelled_batch": section.labelled_batch,
        "unlabelled_batch": section.unlabelled_batch,
        "repeat_threshold": section.repeat_threshold,
        "losses": StudentLosses.of(section),
        "paste": section.paste,
        "paste_min_area": section.paste_min_area,
        "ema": section.ema or None,
        "init_checkpoint": start,
    }
    outcome = train_stage(run, stage, folder, section, structure, extra)
    outcome.files.append(file_entry(folder, page))
    return outcome


def _unlabelled(run: Run, refined: Path, learns_structure: bool) -> dict[str, Any]:
    """The config of the unlabelled images' dataset, without its transforms."""
    images = run.images.unlabelled.images
    return {
        "type": "RefinedInstances",
        "artifact": str(refined),
        "images": [(i.id, i.file_name, str(i.path), i.height, i.width) for i in images],
        "categories": label_categories(run.images.labelled.categories),
        "structure": str(refined) if learns_structure else None,
        "branch": "unlabelled",
        "reading": reading_of(images).plain(),
    }


def _look_at_labels(run: Run, stage: Stage, refined: Path, folder: Path) -> Path:
    """Say what the labels are like, refuse a set without any, and make the page about them."""
    check_labels(run, refined, stage.name, stage.round)
    page = write_page(run, stage, folder)
    run.reporter.say(f"{stage.name}: {page} shows the labels")
    return page


def write_page(run: Run, stage: Stage, folder: Path) -> Path:
    """Write the page about the labels that a student learns from into its artifact's folder."""
    page = folder / PAGE
    write_label_page(run, run.require(stage.upstream(run.config)["refined"]), page)
    return page
