"""Settings, inputs and checks that trainings share."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from s4m_pipeline.artifacts.file_facts import FileState, state_of
from s4m_pipeline.artifacts.training_files import LOG
from s4m_pipeline.config import RANDOM, RunConfig, StudentSection, TeacherSection, TrainingSection
from s4m_pipeline.config_section import result_settings
from s4m_pipeline.configs import expects_weights, may_have, model_config_digest, start_weights
from s4m_pipeline.configs.losses import MASK2FORMER_HEAD, RULE, StudentLosses
from s4m_pipeline.data.check.model_limits import misfits
from s4m_pipeline.data.image_set import require_instances
from s4m_pipeline.engine.perform import freshness
from s4m_pipeline.engine.registry import stage_named
from s4m_pipeline.engine.run import Run
from s4m_pipeline.engine.stage import Stage
from s4m_pipeline.errors import UsageError
from s4m_pipeline.late import load
from s4m_pipeline.strict_json import read_json
from s4m_pipeline.wording import counted

CHECKPOINT_BYTES = 200_000_000
CHECK_START_WEIGHTS = "s4m_pipeline.models.start_weights:check_start_weights"


def training_settings(section: TrainingSection) -> dict[str, Any]:
    """A training's settings, for a fingerprint, with a digest of its model config's content.

    The batch size changes a training's result, so it is included. A precision is included unless it
    is ``auto``, which follows the device. A file of weights to start from is among the inputs
    instead (`weights_source`). Validations count where they choose the weights, and the number of
    the losses' rule where the losses are Mask2Former's.
    """
    settings = result_settings(section) | {"model": model_config_digest(section.model)}
    if may_have(section.model, MASK2FORMER_HEAD):
        settings["rule"] = RULE
    settings["weights"] = RANDOM if section.weights == RANDOM else None
    if section.precision == "auto":
        del settings["precision"]
    if section.keep == "last":
        del settings["keep"]
    else:
        settings["validation_interval"] = section.validation_interval
    return settings


def own_models(config: RunConfig) -> tuple[str, ...]:
    """The model configs that a run's file names: its user's own, which are trusted."""
    return tuple(dict.fromkeys((config.teacher.model, config.student.model)))


def weights_source(section: TrainingSection, run: Run) -> dict[str, str]:
    """The digest of the file of weights that a training starts from, if its settings name one."""
    if section.weights in (None, RANDOM):
        return {}
    return {"weights": run.store.digest_of_file(Path(str(section.weights)))}


def choosing_source(section: TrainingSection, run: Run) -> dict[str, str]:
    """The digest of the validation images, where they choose the weights."""
    validation = run.config.data.validation
    if section.keep == "last" or validation is None:
        return {}
    return {"validation": run.images.digest(validation)}


def check_training(section: TrainingSection, run: Run, has_start: bool = False) -> None:
    """Refuse wrong settings and image sets that cannot be used, before any work (UsageError).

    Args:
        section: The training's settings.
        run: The run.
        has_start: Whether it starts from another training's checkpoint, without a file of weights.
    """
    name = "student" if isinstance(section, StudentSection) else "teacher"
    if section.keep == "best" and run.config.data.validation is None:
        raise UsageError(
            f"{name}.keep is 'best', but there is no data.validation to choose the weights by.\n"
            f"Give validation images, or set {name}.keep to last."
        )
    expected = None if has_start else expects_weights(section.model)
    if expected and section.weights is None and not start_weights(section.model):
        raise UsageError(
            f"model '{section.model}' starts from {expected}.\n"
            f"Give the file as {name}.weights, or 'random' to train without it."
        )
    run.images.load_labelled_sets()
    if section.keep == "best" and run.images.validation is not None:
        require_instances(run.images.validation, f"data.validation, to choose {name}'s weights by,")
    empty = len(run.images.labelled.empty_masks)
    if empty:
        what = counted(empty, "annotation has no pixel and is", "annotations have no pixel and are")
        run.reporter.warn(f"data.labelled: {what} left out")
    for misfit in misfits(run.images.labelled, section.model):
        run.reporter.warn_once(f"data.labelled: {misfit.message}")


def check_weights(stage: Stage, section: TrainingSection, run: Run) -> None:
    """Refuse a file of start weights that does not fit the model, before any work (UsageError)."""
    path = start_checkpoint(section)
    if path is not None and freshness(run, stage).state != "fresh":
        tensors_that_fit(section.model, len(run.images.labelled.categories), path)


def tensors_that_fit(model: str, classes: int, path: Path) -> tuple[int, int]:
    """How many tensors of a model start from a file, and how many there are.

    Args:
        model: The model's name or the path of its config.
        classes: Number of classes.
        path: The file of weights.

    Raises:
        UsageError: Too few start from the file: it does not belong to this model.
    """
    return _fit_of(model, classes, path, state_of(path))


@cache
def _fit_of(model: str, classes: int, path: Path, state: FileState) -> tuple[int, int]:
    """Read a file once for each state."""
    del state
    fit: tuple[int, int] = load(CHECK_START_WEIGHTS)(model, classes, path)
    return fit


def start_checkpoint(section: TrainingSection) -> Path | None:
    """The file of weights that a section names; None where it names none."""
    return None if section.weights in (None, RANDOM) else Path(str(section.weights))


def iterations_done(folder: Path, iterations: int) -> str:
    """How far a training is by its log, as ``iteration 120 of 4000``; empty before its first line.

    Args:
        folder: The artifact's folder.
        iterations: Its length.
    """
    try:
        lines = (folder / LOG).read_text().splitlines()
    except OSError:
        return ""
    for line in reversed(lines):
        try:
            return f"iteration {read_json(line)['iteration']} of {iterations}"
        except (ValueError, KeyError, TypeError):  # it is being written
            continue
    return ""


def teacher_upstream(config: RunConfig) -> dict[str, Stage]:
    """The input artifacts of a teacher's training: structural targets, where it uses them."""
    wanted = config.teacher.structure_weight > 0
    return {"structure": stage_named("structure")} if wanted else {}


def teacher_extra(section: TeacherSection) -> dict[str, Any]:
    """Those fields of ``TrainingSpec`` that differ between teacher and student."""
    return {
        "labelled_batch": section.batch_size,
        "losses": StudentLosses.of(section),
        "ema": None,
        "init_checkpoint": start_checkpoint(section),
    }
