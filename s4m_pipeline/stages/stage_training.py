"""The work of every training: data, progress, and the files that it leaves."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from s4m_pipeline.artifacts.manifest import file_entry
from s4m_pipeline.artifacts.tables import write_table
from s4m_pipeline.artifacts.training_files import CHECKPOINT, LAST, LOG, STATE
from s4m_pipeline.config import MEGABYTE, StudentSection, TrainingSection
from s4m_pipeline.config_data import LabelledSet
from s4m_pipeline.data.image_set import ImageRecord, ImageSet, reading_of, require_instances
from s4m_pipeline.data.images import unreadable
from s4m_pipeline.data.reading import Reading
from s4m_pipeline.engine.reading import quarantine_row
from s4m_pipeline.engine.run import Run
from s4m_pipeline.engine.stage import Outcome, Stage, label_categories
from s4m_pipeline.models.divergence import DivergedError
from s4m_pipeline.models.training import (
    TrainingResult,
    TrainingSpec,
    damaged_files,
    resume_iteration,
    train,
)
from s4m_pipeline.stages.training import start_checkpoint, tensors_that_fit

_PASSED_ON = (
    "iterations",
    "learning_rate",
    "precision",
    "workers",
    "validation_interval",
    "checkpoint_interval",
    "keep",
)
"""Settings that ``TrainingSpec`` takes as they are."""


def labelled_dataset(
    section: LabelledSet,
    categories: Sequence[Mapping[str, Any]],
    exclude: Sequence[int],
    reading: Reading,
    structure: Path | None = None,
) -> dict[str, Any]:
    """The config of a labelled image set's dataset, without its transforms."""
    return {
        "type": "CocoInstances",
        "annotations": str(section.annotations),
        "images": str(section.images),
        "structure": None if structure is None else str(structure),
        "branch": "labelled",
        "categories": list(categories),
        "exclude": list(exclude),
        "reading": reading.plain(),
    }


def bad_images(run: Run, stage: Stage) -> list[tuple[ImageRecord, str]]:
    """Decode all images with masks; gives those that cannot be read, with their errors.

    A training draws images for hours, so a broken one is found before it begins.
    """
    sets = [run.images.labelled, run.images.validation]
    records = [record for image_set in sets if image_set for record in image_set.images]
    with run.reporter.progress(f"{stage.name}: reading images", len(records)) as advance:
        decoded = run.config.execution.decoded_mb * MEGABYTE
        bad = unreadable(records, lambda count: advance(count, ""), decoded)
    for record, error in bad:
        run.reporter.warn(f"{record.file_name} is set aside: {error}")
    return bad


def train_stage(
    run: Run,
    stage: Stage,
    folder: Path,
    section: TrainingSection,
    structure: Path | None,
    extra: Mapping[str, Any],
    left_out: Sequence[int] = (),
    validate: bool = True,
) -> Outcome:
    """Train, from the last checkpoint in ``folder`` if there is one, and describe the result.

    Args:
        run: The run.
        stage: The stage that trains, for its name.
        folder: The artifact's folder.
        section: The stage's settings.
        structure: Folder of the labelled images' structural targets; None to train without.
        extra: Fields of ``TrainingSpec`` that differ between teacher and student.
        left_out: Ids of labelled images that are not trained on.
        validate: Whether to validate on the way, where the run has validation images.

    Raises:
        DivergedError: Losses or weights are not finite; the message says what to set.
    """
    _report_weights(run, stage, section, extra.get("init_checkpoint"))
    aside = bad_images(run, stage)
    excluded = [record for record, _ in aside]
    start = resume_iteration(folder)
    for path in damaged_files(folder):
        run.reporter.warn(
            f"{stage.name}: {path} is damaged and passed over; going on from iteration {start}"
        )
    end = extra.get("until") or section.iterations
    with run.reporter.progress(stage.name, end, start, "iterations") as advance:
        spec = TrainingSpec(
            folder=folder,
            model=section.model,
            categories=label_categories(run.images.labelled.categories),
            labelled=_labelled(run, excluded, left_out, structure),
            validation=_validation(run, excluded) if validate else None,
            log_file=folder / LOG,
            on_step=_step_counter(advance, start),
            seed=run.config.seed,
            device=run.device,
            **{name: getattr(section, name) for name in _PASSED_ON},
            **extra,
        )
        try:
            result = train(spec)
        except DivergedError as error:
            raise DivergedError(f"{stage.name}: {error}.\n{_advice(section)}") from error
    rows = [quarantine_row(record, stage.name, error) for record, error in aside]
    return training_outcome(result, folder, run, rows)


def _advice(section: TrainingSection) -> str:
    """What to set where a training diverged."""
    name = "student" if isinstance(section, StudentSection) else "teacher"
    if section.learning_rate is None:
        return f"Set {name}.learning_rate, lower than the model config's."
    return f"Lower {name}.learning_rate, which is {section.learning_rate:g}."


def _report_weights(run: Run, stage: Stage, section: TrainingSection, start: Path | None) -> None:
    """Say how much of the model starts from the file of weights in its settings."""
    if start is not None and start == start_checkpoint(section):
        classes = len(run.images.labelled.categories)
        fitting, total = tensors_that_fit(section.model, classes, start)
        run.reporter.say(f"{stage.name}: {fitting} of {total} tensors start from {start}")


def _labelled(
    run: Run, excluded: Sequence[ImageRecord], left_out: Sequence[int], structure: Path | None
) -> dict[str, Any]:
    """The config of the labelled images' dataset, without those set aside or left out.

    Raises:
        UsageError: No labelled instance is left that is no crowd.
    """
    labelled = run.images.labelled
    ids = [*_ids(labelled, excluded), *left_out]
    require_instances(labelled.without(ids), "what is left of data.labelled to train on")
    categories = label_categories(labelled.categories)
    reading = reading_of(labelled.images)
    return labelled_dataset(run.config.data.labelled, categories, ids, reading, structure)


def _validation(run: Run, excluded: Sequence[ImageRecord]) -> dict[str, Any] | None:
    """The config of the validation images' dataset, where there are any."""
    section = run.config.data.validation
    if section is None:
        return None
    categories = label_categories(run.images.labelled.categories)
    validation = run.images.validation
    reading = reading_of([] if validation is None else validation.images)
    return labelled_dataset(section, categories, _ids(validation, excluded), reading)


def _ids(image_set: ImageSet | None, records: Sequence[ImageRecord]) -> list[int]:
    """Ids of the records that belong to a set (another set may have the same ids and names)."""
    images = image_set.images if image_set else []
    return [image.id for image in images if any(image is record for record in records)]


def _step_counter(
    advance: Callable[[int, str], None], start: int
) -> Callable[[int, Mapping[str, float]], None]:
    last = start

    def on_step(iteration: int, losses: Mapping[str, float]) -> None:
        nonlocal last
        loss = losses.get("loss")
        advance(iteration - last, "" if loss is None else f"loss {loss:.3f}")
        last = iteration

    return on_step


def training_outcome(
    result: TrainingResult, folder: Path, run: Run, aside: Sequence[dict[str, Any]]
) -> Outcome:
    """The outcome of a training, with the files that it left in the artifact's folder."""
    names = [name for name in (CHECKPOINT, LAST, LOG) if (folder / name).is_file()]
    files = [file_entry(folder, folder / name) for name in names]
    files += [file_entry(folder, path) for path in sorted((folder / STATE).glob("*.pth"))]
    labelled = run.images.labelled
    if aside:
        path = folder / "quarantine" / "00000.parquet"
        rows = write_table(path, "quarantine", aside, label_categories(labelled.categories))
        files.append(file_entry(folder, path, rows))
    counts = {
        "images": len(labelled.images),
        "instances": labelled.instance_count,
        "quarantined": len(aside),
    }
    metrics: dict[str, Any] = {
        "losses": result.losses,
        "validation": result.metrics,
        "precision": result.precision,
    }
    if result.kept and run.config.data.validation is not None:
        images = run.images.digest(run.config.data.validation)
        metrics["kept"] = {**result.kept, "of": result.iterations, "images": images}
    return Outcome(files, counts, metrics)
