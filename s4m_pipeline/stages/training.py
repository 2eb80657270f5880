"""What teacher and student training share of their settings and checks."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from s4m_pipeline.config import RANDOM, StudentSection, TrainingSection, result_settings
from s4m_pipeline.configs import expects_weights, model_config_digest, start_weights
from s4m_pipeline.engine.perform import freshness
from s4m_pipeline.engine.run import Run
from s4m_pipeline.engine.stage import Stage
from s4m_pipeline.errors import UsageError
from s4m_pipeline.late import load
from s4m_pipeline.wording import counted

CHECKPOINT_BYTES = 200_000_000
CHECK_START_WEIGHTS = "s4m_pipeline.models.start_weights:check_start_weights"


def training_settings(section: TrainingSection) -> dict[str, Any]:
    """A training's settings; the model goes by its config's content, not by its name.

    The batch size changes the result of a training, so it is among them, and so does a precision
    that is asked for; ``auto`` follows the device, which is none. A file of weights to start from
    is among the inputs.
    """
    settings = result_settings(section) | {"model": model_config_digest(section.model)}
    settings["weights"] = RANDOM if section.weights == RANDOM else None
    if section.precision == "auto":
        del settings["precision"]
    return settings


def weights_source(section: TrainingSection, run: Run) -> dict[str, str]:
    """Digest of the file of weights that a training starts from, where its settings name one."""
    if section.weights in (None, RANDOM):
        return {}
    return {"weights": run.store.digests.file(Path(str(section.weights)))}


def check_training(section: TrainingSection, run: Run, has_start: bool = False) -> None:
    """Refuse wrong settings and image sets that cannot be used, before any work (UsageError).

    Args:
        section: The training's settings.
        run: The run.
        has_start: The training starts from another's checkpoint and needs no file of weights.
    """
    expected = None if has_start else expects_weights(section.model)
    if expected and section.weights is None and not start_weights(section.model):
        name = "student" if isinstance(section, StudentSection) else "teacher"
        raise UsageError(
            f"model '{section.model}' starts from {expected}.\n"
            f"Give the file as {name}.weights, or 'random' to do without."
        )
    run.images.load_labelled_sets()
    empty = len(run.images.labelled.empty_masks)
    if empty:
        told = counted(empty, "annotation has no pixel and is", "annotations have no pixel and are")
        run.reporter.warn(f"data.labelled: {told} left out")


def check_weights(stage: Stage, section: TrainingSection, run: Run) -> None:
    """Refuse a file of start weights that is not of the model, before any work (UsageError)."""
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
        UsageError: Too few of them do: the file is not of this model.
    """
    state = path.stat()
    return _fit_of(model, classes, path, state.st_size, state.st_mtime_ns)


@cache
def _fit_of(model: str, classes: int, path: Path, *state: int) -> tuple[int, int]:
    """Look once at a file in one state: its size and the time of its last change."""
    del state
    fit: tuple[int, int] = load(CHECK_START_WEIGHTS)(model, classes, path)
    return fit


def start_checkpoint(section: TrainingSection) -> Path | None:
    """The file of weights that a section names; None where it names none."""
    return None if section.weights in (None, RANDOM) else Path(str(section.weights))
