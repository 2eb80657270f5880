"""A calibration's measurements, and the policy that they speak for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from s4m_pipeline.artifacts.tables import read_table
from s4m_pipeline.config import RunConfig
from s4m_pipeline.stages.calibration import gains as calibration
from s4m_pipeline.stages.calibration.policies import calibration_policies, fallback_policy
from s4m_pipeline.stages.refine.settings import settings_of_policy


def choice_of(
    found: calibration.Measured, categories: Sequence[int], config: RunConfig
) -> dict[str, Any]:
    """What a calibration comes to, for its manifest.

    Args:
        found: The measurements.
        categories: All category ids.
        config: The run, for its policies and seed. What is in no fingerprint of a calibration,
            such as ``refine.policy``, must not be looked at.

    Returns:
        ``best`` (the policy's name), ``chosen`` (whether enough instances spoke for it), ``policy``
        (its settings), ``off`` (the ``classes`` and ``sizes`` without refinement), ``sizes`` (its
        gains by size over the classes that are refined) and ``gains`` (by policy). Fewer than
        ``calibration.ENOUGH`` instances choose nothing: ``best`` is the fallback, everywhere on.
    """
    gains = calibration.gains_by(found, categories, config.seed)
    best = calibration.best_policy(gains)
    if best is None:
        raise ValueError("nothing was measured")
    chosen = gains[best]["all"]["all"].instances >= calibration.ENOUGH
    if not chosen:
        best = fallback_policy(config.refine)
    off: dict[str, list[Any]] = {"classes": [], "sizes": []}
    sizes = gains[best]["size"]
    if chosen:
        off["classes"] = _hurt(gains[best]["class"], gains[best]["all"]["all"])
        own = found.take(found.policy == best)
        # a class that is off says nothing about the size of others
        own = own.take(~np.isin(own.category_id, off["classes"]))
        sizes = calibration.gains_by_size(own, config.seed)
        off["sizes"] = _hurt(sizes, calibration.gain_of(own, config.seed))
    return {
        "best": best,
        "chosen": chosen,
        "policy": settings_of_policy(calibration_policies(config)[best]),
        "off": off,
        "sizes": {size: asdict(gain) for size, gain in sizes.items()},
        "gains": calibration.as_json(gains),
    }


def _hurt(gains: Mapping[Any, calibration.Gain], overall: calibration.Gain) -> list[Any]:
    """The classes or sizes for which refinement is to be left off."""
    return [key for key, gain in gains.items() if calibration.hurts(gain, overall)]


def measured(folder: Path) -> calibration.Measured:
    """The measurements of a calibration's artifact."""
    table = read_table(folder, "calibration")
    return calibration.Measured(
        image_id=table["image_id"].to_numpy(),
        category_id=table["category_id"].to_numpy().astype(np.int64),
        area=table["area"].to_numpy().astype(np.int64),
        policy=np.array(table["policy"].to_pylist(), dtype=object),
        before=table["iou_before"].to_numpy().astype(np.float64),
        after=table["iou_after"].to_numpy().astype(np.float64),
    )


def choice_of_artifact(
    folder: Path, categories: Sequence[int], config: RunConfig
) -> dict[str, Any] | None:
    """What the measurements of a calibration's artifact come to; None where there are none.

    Args:
        folder: The artifact.
        categories: All category ids.
        config: The run; see `choice_of`.
    """
    measurements = measured(folder)
    return choice_of(measurements, categories, config) if len(measurements.before) else None
