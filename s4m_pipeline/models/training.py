"""Training of a teacher or a student through MMEngine's Runner."""

from __future__ import annotations

import contextlib
import shutil
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from mmengine.config import Config
from mmengine.hooks import EMAHook
from mmengine.runner import Runner

from s4m_pipeline.artifacts.digest_beside import is_whole_archive, remove_with_digest, write_digest
from s4m_pipeline.artifacts.durable import refuse_folder
from s4m_pipeline.artifacts.training_files import CHECKPOINT, LAST, STATE
from s4m_pipeline.errors import S4MError
from s4m_pipeline.models.checkpoints import Checkpoint, read_checkpoint, write_checkpoint
from s4m_pipeline.models.hooks import read_log
from s4m_pipeline.models.keeping import BEST, KEPT, KeepBestHook, keep_both
from s4m_pipeline.models.legs import has_state, keep_state
from s4m_pipeline.models.model_config import read_model_config
from s4m_pipeline.models.openmmlab import device_in_use, prepare
from s4m_pipeline.models.precision import resolved_precision
from s4m_pipeline.models.runner import LABELS, build_runner
from s4m_pipeline.models.training_spec import (
    WORK_FOLDER,
    TrainingSpec,
    damaged_checkpoints,
    iteration_of,
    newest_checkpoint,
)
from s4m_pipeline.training_data.worker_errors import unwrap

__all__ = [
    "TrainingResult",
    "TrainingSpec",
    "damaged_files",
    "newest_checkpoint",
    "resume_iteration",
    "train",
]

NOTHING: Mapping[str, Any] = MappingProxyType({})
PREFIX = "network."
"""What the training wrapper puts before the names of the network's tensors."""


@dataclass(frozen=True)
class TrainingResult:
    """What a training leaves.

    Attributes:
        checkpoint: The self-contained checkpoint.
        iterations: How many it has done.
        precision: What it was computed in, "float32" or "bfloat16".
        losses: Means of the last logged iterations, with the learning rate and their time.
        metrics: The last validation's figures, such as ``coco/segm_mAP``.
        kept: How the checkpoint's weights were chosen (see ``keeping``); empty for the last ones.
    """

    checkpoint: Path
    iterations: int
    precision: str
    losses: dict[str, float] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)
    kept: dict[str, Any] = field(default_factory=dict)


def train(spec: TrainingSpec, resume: bool = True) -> TrainingResult:
    """Train, or resume a training that was interrupted.

    Args:
        spec: What to train.
        resume: Start from the newest whole checkpoint under ``folder/mmengine``, and do not repeat
            a training that is finished. Otherwise start anew.

    Returns:
        The result. ``folder`` then holds ``checkpoint.pth``; the files for a resume are removed.

    Raises:
        UsageError: The model, the data or the weights cannot be used.
    """
    prepare()
    path = spec.folder / CHECKPOINT
    if not resume:
        _start_anew(spec)
    if not _is_trained(spec, path):
        _train(spec, path)
    info = read_checkpoint(path).info
    if spec.until is not None:
        keep_state(spec.folder, spec.folder / WORK_FOLDER, spec.until)
    shutil.rmtree(spec.folder / WORK_FOLDER, ignore_errors=True)
    log = read_log(spec.log_file)
    steps = [line for line in log if "learning_rate" in line]
    validations = [line for line in log if "learning_rate" not in line]
    return TrainingResult(
        path,
        spec.end,
        info.get("precision", "float32"),
        _last(steps),
        _last(validations),
        info.get(KEPT, {}),
    )


def _is_trained(spec: TrainingSpec, path: Path) -> bool:
    """Whether nothing is left to train, and nothing of what is to be kept was lost since."""
    if not is_whole_archive(path) or read_checkpoint(path).iterations != spec.end:
        return False
    return spec.until is None or has_state(spec.folder, spec.folder / WORK_FOLDER, spec.until)


def resume_iteration(folder: Path) -> int:
    """The iteration that a training in this folder would go on from; 0 where it would begin.

    Args:
        folder: As of ``TrainingSpec``.
    """
    newest = newest_checkpoint(folder / WORK_FOLDER)
    return 0 if newest is None else iteration_of(newest)


def damaged_files(folder: Path) -> list[Path]:
    """What an earlier try left in a training's folder that cannot be gone on with.

    Args:
        folder: As of ``TrainingSpec``.
    """
    path = folder / CHECKPOINT
    if path.is_file():
        return [] if is_whole_archive(path) else [path]
    return damaged_checkpoints(folder / WORK_FOLDER)


def _last(lines: list[dict[str, float]]) -> dict[str, float]:
    """The figures of the last of some lines of a log."""
    return {name: value for name, value in (lines or [{}])[-1].items() if name != "iteration"}


def _train(spec: TrainingSpec, path: Path) -> None:
    """Run MMEngine's Runner to the end and write the checkpoint."""
    config = read_model_config(spec.model, len(spec.categories))
    work = spec.folder / WORK_FOLDER
    work.mkdir(parents=True, exist_ok=True)
    names = (LABELS, "last_checkpoint")
    for written in (
        path,
        spec.log_file,
        *work.glob("iter_*.pth*"),
        *(work / name for name in names),
    ):
        refuse_folder(written)  # before hours of work, not when it is written
    (work / LABELS).unlink(missing_ok=True)  # made of tables whose digests have just been compared
    spec.log_file.parent.mkdir(parents=True, exist_ok=True)
    try:
        with device_in_use(spec.device), _output_to_stderr():
            runner = build_runner(spec, config, work, _keeping(spec, config, work))
            runner.train()
    except S4MError as error:
        raise unwrap(error) from error
    last = _checkpoint(spec, config, runner, spec.end)
    if spec.keep == "best" and spec.until is None:
        keep_both(spec.folder, work / BEST, last)
        return
    write_checkpoint(path, last)
    write_digest(path)


def _keeping(spec: TrainingSpec, config: Config, work: Path) -> list[KeepBestHook]:
    """The hook that keeps the best weights, where they are asked for."""
    if spec.keep != "best":
        return []

    def make(runner: Runner, choice: Mapping[str, Any]) -> Checkpoint:
        return _checkpoint(spec, config, runner, spec.iterations, {KEPT: dict(choice)})

    return [KeepBestHook(work / BEST, spec.log_file, make)]


def _checkpoint(
    spec: TrainingSpec,
    config: Config,
    runner: Runner,
    iterations: int,
    more: Mapping[str, Any] = NOTHING,
) -> Checkpoint:
    """Collect what a runner has come to, as that of so many iterations, ``more`` in its info."""
    weights = _network_weights(runner.model.state_dict())
    source = None
    for hook in runner.hooks:
        if isinstance(hook, EMAHook):
            source = weights
            weights = _network_weights(hook.ema_model.module.state_dict())
    return Checkpoint(
        weights=weights,
        source_weights=source,
        model=config.model.to_dict(),
        categories=spec.categories,
        test_scale=tuple(config.test_scale),
        iterations=iterations,
        info={
            "config": str(spec.model),
            "seed": spec.seed,
            "batch_size": spec.batch_size,
            "precision": resolved_precision(spec.precision, spec.device),
            "levels": spec.labelled.get("reading", {}).get("levels"),
            **more,
        },
    )


def _network_weights(state: dict[str, Any]) -> dict[str, Any]:
    """The wrapped network's tensors under its own names."""
    return {k[len(PREFIX) :]: v for k, v in state.items() if k.startswith(PREFIX)}


def _start_anew(spec: TrainingSpec) -> None:
    """Remove what an earlier training left."""
    for name in (WORK_FOLDER, STATE):
        shutil.rmtree(spec.folder / name, ignore_errors=True)
    for path in (spec.folder / CHECKPOINT, spec.folder / LAST, spec.log_file):
        remove_with_digest(path)


@contextlib.contextmanager
def _output_to_stderr() -> Iterator[None]:
    """Send what MMEngine and pycocotools print to standard error; results go to standard output."""
    with contextlib.redirect_stdout(sys.stderr):
        yield
