"""The training's own hook: it writes a log of JSON lines and reports progress."""

from __future__ import annotations

import json
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from mmdet.registry import HOOKS
from mmengine.hooks import CheckpointHook, Hook

from s4m_pipeline.artifacts.digest_beside import write_digest
from s4m_pipeline.artifacts.sealed import write_text
from s4m_pipeline.errors import S4MError
from s4m_pipeline.strict_json import read_json

LOG_INTERVAL = 10
Progress = Callable[[int, dict[str, float]], None]


@HOOKS.register_module()
class JsonLinesHook(Hook):
    """Writes losses and validation figures as JSON lines, and calls back at every step.

    A line has ``iteration`` (counted from 1) and either the losses by name (means since the line
    before), ``learning_rate``, ``seconds`` an iteration and how many of them were spent waiting for
    the batch (``data_seconds``), or the figures of a validation, such as ``coco/segm_mAP``. Lines
    that a resumed training will write again are cut off first.

    Args:
        path: The log file; its folder exists.
        on_step: Called after every step with the iteration and its losses.
    """

    priority = "LOW"

    def __init__(self, path: str | Path, on_step: Progress | None = None) -> None:
        self.path = Path(path)
        self.on_step = on_step
        self._sums: dict[str, float] = defaultdict(float)
        self._steps = 0
        self._since = 0.0
        self._paused = 0.0
        self._folder: tuple[int, int] | None = None

    def before_train(self, runner: Any) -> None:
        """Cut off what comes after the iteration that the training starts from."""
        self._folder = _place_of(self.path.parent)
        lines = [x for x in read_log(self.path) if x["iteration"] <= runner.iter]
        if runner.iter >= runner.train_loop.end and runner.val_loop is not None:
            # Only the last validation is left to do: see PositionedTrainLoop.
            lines = [x for x in lines if x["iteration"] < runner.iter or "learning_rate" in x]
        write_text(self.path, "".join(json.dumps(line) + "\n" for line in lines))
        self._since = time.monotonic()

    def after_train_iter(
        self,
        runner: Any,
        batch_idx: int,
        data_batch: Any = None,
        outputs: dict[str, Any] | None = None,
    ) -> None:
        """Add up the step's losses, and write a line at every tenth and at the last step.

        Raises:
            S4MError: The log's folder is gone. A checkpoint would make it anew and go on, with
                nothing of what was there.
        """
        if _place_of(self.path.parent) != self._folder:
            raise S4MError(
                f"{self.path.parent}: was removed or taken away; the training ends after "
                f"{runner.iter + 1} iterations.\nWhen the folder is there again, run it again."
            )
        losses = {name: _number(value) for name, value in (outputs or {}).items()}
        iteration = runner.iter + 1
        for name, value in losses.items():
            self._sums[name] += value
        self._steps += 1
        if iteration % LOG_INTERVAL == 0 or iteration == runner.train_loop.end:
            self._write_losses(runner, iteration)
        if self.on_step is not None:
            self.on_step(iteration, losses)

    def before_val_epoch(self, runner: Any) -> None:
        """Stop the clock: a validation's time is not the steps'."""
        self._paused = time.monotonic()

    def after_val_epoch(self, runner: Any, metrics: dict[str, float] | None = None) -> None:
        """Write the validation figures."""
        figures = {name: _number(value) for name, value in (metrics or {}).items()}
        self._append({"iteration": runner.iter, **figures})
        self._since += time.monotonic() - self._paused

    def _write_losses(self, runner: Any, iteration: int) -> None:
        now, batches = time.monotonic(), runner.train_loop.dataloader_iterator
        self._append(
            {
                "iteration": iteration,
                **{name: total / self._steps for name, total in self._sums.items()},
                "learning_rate": max(runner.optim_wrapper.get_lr()["lr"]),
                "seconds": (now - self._since) / self._steps,
                "data_seconds": batches.waited / self._steps,
            }
        )
        batches.waited = 0.0
        self._since, self._steps = now, 0
        self._sums.clear()

    def _append(self, line: dict[str, Any]) -> None:
        with self.path.open("a") as log:
            log.write(json.dumps(line) + "\n")


@HOOKS.register_module()
class DigestedCheckpointHook(CheckpointHook):
    """MMEngine's checkpoints, each with a digest beside it, which a resumed training compares.

    The last is written where the loop stops, be it before the training's end.
    """

    def is_last_train_iter(self, runner: Any) -> bool:
        """Whether the loop stops after this iteration."""
        return bool(runner.iter + 1 == runner.train_loop.end)

    def _save_checkpoint_with_step(self, runner: Any, step: int, meta: dict[str, Any]) -> None:
        super()._save_checkpoint_with_step(runner, step, meta)
        newest = Path(self.last_ckpt)
        write_digest(newest)
        for path in newest.parent.glob(f"iter_*{newest.suffix}.sha256"):
            if not path.with_suffix("").is_file():  # MMEngine has removed its checkpoint
                path.unlink()


def read_log(path: Path) -> list[dict[str, Any]]:
    """Read a training's log; lines that are damaged or were cut short are left out."""
    if not path.is_file():
        return []
    texts = path.read_text(encoding="utf-8", errors="replace").splitlines()
    return [line for text in texts if (line := _log_line(text))]


def _log_line(text: str) -> dict[str, Any]:
    """A line's figures; none where it is not as it was written."""
    try:
        line = read_json(text)
    except (ValueError, RecursionError):
        return {}
    if not isinstance(line, dict) or not isinstance(line.get("iteration"), int):
        return {}
    return line if all(isinstance(value, (int, float)) for value in line.values()) else {}


def _place_of(folder: Path) -> tuple[int, int] | None:
    """Which folder it is, whatever its name; None where there is none."""
    try:
        state = folder.stat()
    except OSError:
        return None
    return state.st_dev, state.st_ino


def _number(value: Any) -> float:
    return float(value.item()) if torch.is_tensor(value) else float(value)
