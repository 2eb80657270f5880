"""The policy that a calibration's measurements choose."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from s4m_pipeline.artifacts.tables import read_table
from s4m_pipeline.config import RunConfig
from s4m_pipeline.stages.calibration.gains import (
    ENOUGH,
    Gain,
    Measurements,
    as_json,
    best_policy,
    gain_of,
    gains_by,
    gains_by_size,
    hurts,
)
from s4m_pipeline.stages.calibration.policies import calibration_policies, fallback_policy
from s4m_pipeline.stages.refine.settings import settings_of_policy


def choice_of(
    measurements: Measurements, categories: Sequence[int], config: RunConfig
) -> dict[str, Any]:
    """Choose a policy by a calibration's measurements; gives the result for the manifest.

    Args:
        measurements: The measurements.
        categories: All category ids.
        config: The run, for its policies and seed. Settings that are not in a calibration's
            fingerprint, such as ``refine.policy``, must not be used.

    Returns:
        ``best`` (the policy's name), ``chosen`` (whether there were enough instances to choose it),
        ``policy`` (its settings), ``off`` (the ``classes`` and ``sizes`` without refinement),
        ``sizes`` (its gains by size over the classes that are refined) and ``gains`` (by policy).
        Fewer than ``ENOUGH`` instances choose nothing: ``best`` is the fallback, for all classes
        and sizes.
    """
    gains = gains_by(measurements, categories, config.seed)
    best = best_policy(gains)
    if best is None:
        raise ValueError("nothing was measured")
    chosen = gains[best]["all"]["all"].instances >= ENOUGH
    if not chosen:
        best = fallback_policy(config.refine)
    off: dict[str, list[Any]] = {"classes": [], "sizes": []}
    sizes = gains[best]["size"]
    if chosen:
        off["classes"] = _hurt(gains[best]["class"], gains[best]["all"]["all"])
        own = measurements.take(measurements.policy == best)
        # a class that is off says nothing about the sizes of others
        own = own.take(~np.isin(own.category_id, off["classes"]))
        sizes = gains_by_size(own, config.seed)
        off["sizes"] = _hurt(sizes, gain_of(own, config.seed))
    return {
        "best": best,
        "chosen": chosen,
        "policy": settings_of_policy(calibration_policies(config)[best]),
        "off": off,
        "sizes": {size: asdict(gain) for size, gain in sizes.items()},
        "gains": as_json(gains),
    }


def _hurt(gains: Mapping[Any, Gain], overall: Gain) -> list[Any]:
    """The classes or sizes for which refinement is to be left off."""
    return [key for key, gain in gains.items() if hurts(gain, overall)]


def read_measurements(folder: Path) -> Measurements:
    """The measurements of a calibration's artifact."""
    table = read_table(folder, "calibration", unfinished=True)
    return Measurements(
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
    """The choice of a calibration's artifact, as `choice_of` gives it; None without measurements.

    Args:
        folder: The artifact.
        categories: All category ids.
        config: The run; see `choice_of`.
    """
    measurements = read_measurements(folder)
    return choice_of(measurements, categories, config) if len(measurements.before) else None
