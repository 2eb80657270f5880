"""The teachers of a cross-fit: which images each one does not see, and its training."""

from __future__ import annotations

from pathlib import Path

from s4m_pipeline.artifacts.seeds import rng
from s4m_pipeline.engine.run import Run
from s4m_pipeline.engine.stage import Stage
from s4m_pipeline.stages.calibration.cross_fit import CrossFit, fold_section
from s4m_pipeline.stages.calibration.gains import assign_folds
from s4m_pipeline.stages.stage_training import train_stage
from s4m_pipeline.stages.training import teacher_extra


def fold_of_image(run: Run) -> dict[int, int]:
    """By labelled image id, the fold whose teacher does not see it; drawn with the run's seed."""
    labelled = run.images.labelled
    classes = [[i.category_id for i in labelled.instances.get(r.id, [])] for r in labelled.images]
    generator = rng(run.config.seed, CrossFit.name, "folds")
    folds = assign_folds(classes, run.config.calibration.folds, generator)
    return {r.id: int(fold) for r, fold in zip(labelled.images, folds, strict=True)}


def train_fold(run: Run, stage: Stage, folder: Path, number: int) -> None:
    """Train a fold's teacher on the labelled images of all other folds.

    Args:
        run: The run.
        stage: The stage that trains, for its name and its inputs.
        folder: Where the training keeps its files.
        number: The fold, from 0.
    """
    section = fold_section(run.config)
    left_out = [image for image, fold in fold_of_image(run).items() if fold == number]
    run.reporter.say(
        f"{stage.name}: teacher {number + 1} of {run.config.calibration.folds}, "
        f"without {len(left_out)} labelled images"
    )
    structure = stage.upstream(run.config).get("structure")
    train_stage(
        run,
        stage,
        folder,
        section,
        None if structure is None else run.require(structure),
        teacher_extra(section),
        left_out=left_out,
        validate=False,
    )
