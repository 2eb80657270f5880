"""The work of ``train-student``: check and show the labels, then train."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from s4m_pipeline.artifacts.manifest import file_entry
from s4m_pipeline.artifacts.training_files import CHECKPOINT, PAGE
from s4m_pipeline.configs.losses import StudentLosses
from s4m_pipeline.data.image_set import reading_of
from s4m_pipeline.engine.registry import stage_named
from s4m_pipeline.engine.run import Run
from s4m_pipeline.engine.stage import Outcome, Stage, label_categories
from s4m_pipeline.labels.page import write_label_page
from s4m_pipeline.labels.warnings import check_labels
from s4m_pipeline.models.legs import take_up
from s4m_pipeline.stages.comparison.decision import read_decision
from s4m_pipeline.stages.legs import leg_of
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
    leg = leg_of(run.config, stage.refresh)
    refined = labels_of(run, stage)
    page = _look_at_labels(run, stage, refined, folder)
    structure = run.require(upstream["structure"]) if "structure" in upstream else None
    start = start_checkpoint(section)
    if "teacher" in upstream:
        start = run.require(upstream["teacher"]) / CHECKPOINT
    if leg.before is not None:
        start = None  # all weights are in the state that the leg before left
        take_up(folder, run.require(upstream["before"]), leg.start)
    extra = {
        "until": leg.until,
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
    if leg.labels:
        outcome.metrics["labels_of_refresh"] = taken_refresh(run, stage)
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
    check_labels(run, refined, stage.name, stage.round, taken_refresh(run, stage))
    page = write_page(run, stage, folder)
    run.reporter.say(f"{stage.name}: {page} shows the labels")
    return page


def write_page(run: Run, stage: Stage, folder: Path) -> Path:
    """Write the page about the labels that a student learns from into its artifact's folder."""
    page = folder / PAGE
    write_label_page(run, labels_of(run, stage), page)
    return page


def labels_of(run: Run, stage: Stage) -> Path:
    """The folder of the labels that a training learns from: those that were taken last."""
    return run.require(stage_named("refine", stage.round, refresh=taken_refresh(run, stage)))


def taken_refresh(run: Run, stage: Stage) -> int:
    """The refresh whose labels a training learns from; 0 for the round's first ones."""
    compared = stage.upstream(run.config).get("compared")
    return 0 if compared is None else read_decision(run.require(compared)).labels
