"""What a training that goes on takes from the checkpoint that it left.

MMEngine takes all of it: it runs a config as Python, puts a scheduler's state over its methods,
deletes the files that a list of older checkpoints names, and passes over as many batches as the
iteration says. The checkpoint may lie in a work folder that somebody else made.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from mmengine.logging import HistoryBuffer
from mmengine.optim.scheduler.param_scheduler import _ParamScheduler
from torch import Tensor

from s4m_pipeline.errors import ArtifactError

META = ("epoch", "iter", "cfg", "dataset_meta", "experiment_name", "mmengine_version", "time")
"""What ``meta`` may say to a training; the seed is the run's own."""
WEIGHTS = ("state_dict", "ema_state_dict")
KEPT = "keep_ckpt_ids"
"""The iterations whose files MMEngine deletes when there are newer ones."""
LAST = 1 << 40


def iteration_named(path: Path) -> int | None:
    """The iteration in the name of one of MMEngine's checkpoints; None where it names none."""
    number = path.stem.removeprefix("iter_")
    is_one = number.isascii() and number.isdecimal() and len(number) <= len(str(LAST))
    return int(number) if is_one and path.name.startswith("iter_") else None


def as_resumed(content: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """The parts of a checkpoint that a training goes on with, each of the kind that it writes.

    Args:
        content: What was read.
        path: The file, which is named by its iteration.

    Raises:
        ArtifactError: A part is missing or of another kind.
    """
    try:
        return _checked(content, iteration_named(path))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ArtifactError(
            f"{path} is damaged, or no checkpoint of this training: {_said(error)}.\n"
            "Remove it to go on from the one before, or begin anew with --force."
        ) from error


def _said(error: Exception) -> str:
    said = str(error)[:200]
    return f"it has no {said}" if isinstance(error, KeyError) else said


def _checked(content: Mapping[str, Any], iteration: int | None) -> dict[str, Any]:
    meta = content["meta"]
    kept = {name: meta[name] for name in META if name in meta}
    if iteration is None or type(kept["iter"]) is not int or kept["iter"] != iteration:
        raise ValueError(f"its name is not that of iteration {kept['iter']!a:.40}")
    if type(kept["epoch"]) is not int:
        raise ValueError("its epoch is no number")
    resumed = {
        "meta": kept,
        "message_hub": _messages(content["message_hub"], iteration),
        "optimizer": _optimizer(content["optimizer"]),
        "param_schedulers": [_scheduler(state) for state in content["param_schedulers"]],
    }
    for name in WEIGHTS:
        if name in content:
            resumed[name] = _tensors(name, content[name])
    return resumed


def _messages(hub: Mapping[str, Any], iteration: int) -> dict[str, Any]:
    """The log's running values, and which of the older checkpoints are still there."""
    scalars = {
        name: value
        for name, value in hub["log_scalars"].items()
        if isinstance(name, str) and isinstance(value, HistoryBuffer)
    }
    info = {}
    if KEPT in hub["runtime_info"]:
        older = list(hub["runtime_info"][KEPT])
        if not all(type(one) is int and 0 <= one <= iteration for one in older):
            raise ValueError(f"its {KEPT} are no iterations")
        info[KEPT] = older
    return {
        "log_scalars": scalars,
        "runtime_info": info,
        "resumed_keys": dict.fromkeys([*scalars, *info], True),
    }


def _optimizer(state: Mapping[str, Any]) -> dict[str, Any]:
    if not isinstance(state["state"], dict) or not isinstance(state["param_groups"], list):
        raise ValueError("its optimizer is none")
    return dict(state)


def _scheduler(state: Mapping[str, Any]) -> dict[str, Any]:
    """A scheduler's state, which MMEngine puts over the scheduler's own attributes."""
    for name, value in state.items():
        if not isinstance(name, str) or name == "optimizer" or hasattr(_ParamScheduler, name):
            raise ValueError(f"a scheduler's state names {name!a:.40}")
        if callable(value):
            raise ValueError(f"a scheduler's {name!a:.40} is no value")
    return dict(state)


def _tensors(name: str, state: Any) -> Mapping[str, Tensor]:
    named = isinstance(state, dict) and all(isinstance(key, str) for key in state)
    if not named or not all(isinstance(value, Tensor) for value in state.values()):
        raise ValueError(f"its {name} holds other things than tensors")
    return cast("Mapping[str, Tensor]", state)  # itself: it carries the modules' versions
