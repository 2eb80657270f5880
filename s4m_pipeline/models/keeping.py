"""Keeps a training's best weights by validation, beside its last ones."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from mmengine.hooks import Hook

from s4m_pipeline.artifacts.digest_beside import (
    is_whole_archive,
    remove_with_digest,
    write_digest,
)
from s4m_pipeline.artifacts.training_files import CHECKPOINT, LAST
from s4m_pipeline.errors import ArtifactError
from s4m_pipeline.models.checkpoints import Checkpoint, read_checkpoint, write_checkpoint
from s4m_pipeline.models.hooks import read_log
from s4m_pipeline.models.own_measure import MEASURES

BEST = "best.pth"
"""The best weights so far, in the runner's work folder."""
KEPT = "kept"
"""What a checkpoint's info says of the choice."""

Make = Callable[[Any, Mapping[str, Any]], Checkpoint]
"""Makes a checkpoint of a runner, with what its info says of the choice."""


class KeepBestHook(Hook):
    """Writes a checkpoint whenever a validation is better than all before it.

    Of equals the earliest is kept. It acts after the averaged weights are back in their place and
    before the log is written: a validation that the log has was looked at here. A training that was
    stopped between a checkpoint and its validation makes up for the validation first.

    Args:
        path: Where the best weights go.
        log_file: The training's log.
        make: Makes the checkpoint.
    """

    priority = "BELOW_NORMAL"

    def __init__(self, path: Path, log_file: Path, make: Make) -> None:
        self._path, self._log_file, self._make = path, log_file, make
        self._best: float | None = None

    def before_train(self, runner: Any) -> None:
        """Take up the choice where an earlier try left it.

        Raises:
            ArtifactError: The best weights so far are lost.
        """
        start, end = runner.iter, runner.train_loop.end
        log = read_log(self._log_file)
        seen = [line["iteration"] for line in log if "learning_rate" not in line]
        if not start:
            remove_with_digest(self._path)
        elif is_whole_archive(self._path):
            self._best = float(choice_of(self._path)["value"])
        elif any(place < start or place == start < end for place in seen):
            raise ArtifactError(
                f"{self._path} is damaged or gone: the best weights of the first {start} "
                "iterations are lost.\nTrain anew with --force, or set keep to last, which goes "
                "without them."
            )
        due = start and start % runner.train_loop.val_interval == 0
        if due and start < end and start not in seen:
            runner.val_loop.run()

    def after_val_epoch(self, runner: Any, metrics: dict[str, float] | None = None) -> None:
        """Write the weights where they are the best so far."""
        measure = next(name for name in MEASURES if name in (metrics or {}))
        value = float((metrics or {})[measure])
        if self._best is not None and value <= self._best:
            return
        choice = {"weights": "best", "iteration": runner.iter, "measure": measure, "value": value}
        write_checkpoint(self._path, self._make(runner, choice))
        write_digest(self._path)
        self._best = value


def choice_of(path: Path) -> dict[str, Any]:
    """What a checkpoint says of how its weights were chosen; nothing where they are the last."""
    choice: dict[str, Any] = read_checkpoint(path).info.get(KEPT, {})
    return choice


def keep_both(folder: Path, best: Path, last: Checkpoint) -> None:
    """Make the best weights a training's checkpoint, and write the last ones beside them.

    These are left out where they are the best ones, and where the disk has no room for them.

    Args:
        folder: The training's folder.
        best: The best weights; the file is moved.
        last: The last ones.
    """
    end = folder / LAST
    remove_with_digest(end)
    enough = shutil.disk_usage(folder).free > 2 * best.stat().st_size
    if enough and choice_of(best)["iteration"] != last.iterations:
        write_checkpoint(end, last)
        write_digest(end)
    os.replace(best, folder / CHECKPOINT)
    write_digest(folder / CHECKPOINT)
