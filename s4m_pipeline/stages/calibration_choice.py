"""A calibration's measurements, and the policy that they speak for."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from s4m_pipeline.artifacts.tables import read_table
from s4m_pipeline.config import RunConfig
from s4m_pipeline.data import calibration
from s4m_pipeline.stages.calibrated_policies import (
    calibration_policies,
    own_policy,
    policy_as_json,
)


def choice_of(
    found: calibration.Measured, categories: Sequence[int], config: RunConfig
) -> dict[str, Any]:
    """What a calibration comes to, for its manifest.

    Args:
        found: The measurements.
        categories: All category ids.
        config: The run, for its policies and seed.

    Returns:
        ``best`` (the policy's name), ``policy`` (its settings), ``off`` (``everywhere``, and the
        ``classes`` and ``sizes`` without refinement) and ``gains`` (by policy). Fewer than
        ``calibration.ENOUGH`` instances leave the configured policy, everywhere on.
    """
    gains = calibration.gains_by(found, categories, config.seed)
    best = calibration.best_policy(gains)
    if best is None:
        raise ValueError("nothing was measured")
    overall = gains[best]["all"]["all"]
    off: dict[str, Any] = {"classes": [], "sizes": [], "everywhere": overall.gain <= 0}
    if overall.instances < calibration.ENOUGH:
        best, off["everywhere"] = own_policy(config.refine), False
    else:
        for part, kind in (("classes", "class"), ("sizes", "size")):
            hurt = [k for k, v in gains[best][kind].items() if calibration.hurts(v, overall)]
            off[part] = hurt
    policy = policy_as_json(calibration_policies(config)[best])
    return {"best": best, "policy": policy, "off": off, "gains": calibration.as_json(gains)}


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
