"""What a training is to do, and the checkpoint that a stopped one resumes from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import takewhile
from pathlib import Path
from typing import Any

from s4m_pipeline.artifacts.digest_beside import is_whole_archive
from s4m_pipeline.configs.losses import StudentLosses
from s4m_pipeline.models.trust.resumed import LAST, iteration_named

WORK_FOLDER = "mmengine"
"""Where MMEngine keeps its files, in a training's folder."""


@dataclass(frozen=True)
class TrainingSpec:
    """What to train, on what, and how.

    Attributes:
        folder: Where checkpoints go; made when missing.
        model: Name in ``configs/models``, or path to an MMEngine config (Python code that runs).
        categories: ``{"id", "name"}`` of each class, in the order of labels.
        labelled: Dataset config of the labelled images, without a pipeline.
        log_file: JSON lines.
        iterations: Length of the training.
        until: Where to stop before that, and leave the state to go on from; None to go to the end.
        labelled_batch: Labelled images a step.
        unlabelled_batch: Pseudo-labelled images a step; 0 for a teacher.
        unlabelled: Dataset config of the pseudo-labelled images; None for a teacher.
        repeat_threshold: Draws labelled images of a training with unlabelled ones by their rarest
            class (see ``repeats.repeat_factors``); 0 draws all equally often.
        validation: Dataset config of the validation images; None for no validation.
        learning_rate: Instead of the model config's, unless None.
        seed: Of weights, order, augmentation and losses.
        device: "cpu", "cuda", "cuda:N" or "auto".
        precision: "float32", "bfloat16" or "auto" (see ``precision.resolved_precision``).
        workers: Processes that load data; 0 loads in this one.
        validation_interval: Iterations between validations; there is one at the end as well.
        checkpoint_interval: Iterations between checkpoints; there is one at the end as well.
        keep: "last", or "best": the checkpoint has the weights with the best validation, the last
            ones stand beside it.
        losses: The losses beside the network's own.
        paste: "off", or how unlabelled images trade instances: "static" or "dynamic".
        paste_min_area: Least area of a mask that is traded, as a share of the model config's crop.
        ema: Decay of the averaged weights; None or 0 for none.
        init_checkpoint: Weights to start from (see ``start_weights``), or None.
        on_step: Called after each step with the iteration (from 1) and its losses.
    """

    folder: Path
    model: str | Path
    categories: list[dict[str, Any]]
    labelled: dict[str, Any]
    log_file: Path
    iterations: int
    labelled_batch: int
    until: int | None = None
    unlabelled: dict[str, Any] | None = None
    unlabelled_batch: int = 0
    repeat_threshold: float = 0.0
    validation: dict[str, Any] | None = None
    learning_rate: float | None = None
    seed: int = 0
    device: str = "cpu"
    precision: str = "float32"
    workers: int = 0
    validation_interval: int = 1000
    checkpoint_interval: int = 500
    keep: str = "last"
    losses: StudentLosses = field(default_factory=StudentLosses)
    paste: str = "off"
    paste_min_area: float = 0.00286
    ema: float | None = None
    init_checkpoint: Path | None = None
    on_step: Callable[[int, dict[str, float]], None] | None = None

    @property
    def end(self) -> int:
        """The iteration that it stops at."""
        return self.iterations if self.until is None else self.until

    @property
    def batch_size(self) -> int:
        """Images a step, of both kinds together."""
        return self.labelled_batch + self.unlabelled_batch


def newest_checkpoint(work: Path, last: int = LAST) -> Path | None:
    """Find the newest of MMEngine's checkpoints in its work folder.

    Only those count that were written to their end and have not changed since.

    Args:
        work: The folder.
        last: The training's last iteration; what is named by a later one is not of it.
    """
    found = (path for path in _newest_first(work) if iteration_of(path) <= last)
    return next((path for path in found if is_whole_archive(path)), None)


def damaged_checkpoints(work: Path) -> list[Path]:
    """The checkpoints that `newest_checkpoint` passes over, from the newest on."""
    return list(takewhile(lambda path: not is_whole_archive(path), _newest_first(work)))


def _newest_first(work: Path) -> list[Path]:
    found = [path for path in work.glob("iter_*.pth") if iteration_named(path) is not None]
    return sorted(found, key=iteration_of, reverse=True)


def iteration_of(checkpoint: Path) -> int:
    """The iteration in the name of one of MMEngine's checkpoints."""
    return iteration_named(checkpoint) or 0
