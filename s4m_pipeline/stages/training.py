"""What teacher and student training share: calling MMEngine, progress, the artifact's files."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from s4m_pipeline.artifacts.manifest import file_entry
from s4m_pipeline.config import LabelledSet, TrainingSection, result_settings
from s4m_pipeline.configs import model_config_digest
from s4m_pipeline.stages.base import Outcome, Run, Stage, label_categories

if TYPE_CHECKING:
    from s4m_pipeline.models.training import TrainingResult

CHECKPOINT = "checkpoint.pth"
LOG = "log.jsonl"
CHECKPOINT_BYTES = 200_000_000


def training_settings(section: TrainingSection) -> dict[str, Any]:
    """A training's settings; the model goes by its config's content, not by its name.

    The batch size changes the result of a training, so it is among them.
    """
    return result_settings(section) | {"model": model_config_digest(section.model)}


def labelled_dataset(section: LabelledSet, structure: Path | None = None) -> dict[str, Any]:
    """Config of the dataset of a labelled image set, without its pipeline."""
    return {
        "type": "CocoInstances",
        "annotations": str(section.annotations),
        "images": str(section.images),
        "structure": None if structure is None else str(structure),
        "branch": "labelled",
    }


def validation_dataset(run: Run) -> dict[str, Any] | None:
    """Config of the validation dataset; None where the run has none."""
    section = run.config.data.validation
    return None if section is None else labelled_dataset(section)


def check_image_sets(run: Run) -> None:
    """Read the labelled and the validation images (UsageError where they cannot be used)."""
    run.images.load_labelled_sets()


def train_stage(
    run: Run, stage: Stage, folder: Path, section: TrainingSection, extra: Mapping[str, Any]
) -> Outcome:
    """Train, going on from the last checkpoint in ``folder``, and describe what came out.

    Args:
        run: The run.
        stage: The training stage, for its name.
        folder: The artifact's folder.
        section: The stage's settings.
        extra: Fields of ``TrainingSpec`` that differ between teacher and student.
    """
    from s4m_pipeline.models.training import TrainingSpec, train

    labelled = run.images.labelled
    with run.reporter.progress(stage.name, section.iterations, unit="iterations") as advance:
        spec = TrainingSpec(
            folder=folder,
            model=section.model,
            categories=label_categories(labelled.categories),
            validation=validation_dataset(run),
            iterations=section.iterations,
            batch_size=section.batch_size,
            learning_rate=section.learning_rate,
            seed=run.config.seed,
            device=run.device,
            workers=section.workers,
            validation_interval=section.validation_interval,
            checkpoint_interval=section.checkpoint_interval,
            structure_weight=section.structure_weight,
            log_file=folder / LOG,
            on_step=_step_counter(advance),
            **extra,
        )
        trained = train(spec)
    return training_outcome(trained, folder, run)


def _step_counter(
    advance: Callable[[int, str], None],
) -> Callable[[int, Mapping[str, float]], None]:
    last = 0

    def on_step(iteration: int, losses: Mapping[str, float]) -> None:
        nonlocal last
        loss = losses.get("loss")
        advance(iteration - last, "" if loss is None else f"loss {loss:.3f}")
        last = iteration

    return on_step


def training_outcome(trained: TrainingResult, folder: Path, run: Run) -> Outcome:
    """Describe what a training left in the artifact's folder."""
    files = [file_entry(folder, folder / name) for name in (CHECKPOINT, LOG)]
    labelled = run.images.labelled
    counts = {"images": len(labelled.images), "instances": labelled.instance_count}
    metrics = {"losses": trained.losses, "validation": trained.metrics}
    return Outcome(files, counts, metrics)
