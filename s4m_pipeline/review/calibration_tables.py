"""The results of a calibration, as tables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from s4m_pipeline.review.table import Cell, Table

HEADS = ["instances", "IoU before", "after", "gain", "95 % of the gain"]
_ON_OFF = {"on": "good", "off": "warn"}


def calibration_tables(metrics: Mapping[str, Any], names: Mapping[int, str]) -> list[Table]:
    """The policies side by side, then the best one by size and class.

    Args:
        metrics: ``metrics`` of a calibration's manifest.
        names: Class names by category id.
    """
    return [policy_table(metrics), part_table(metrics, names)]


def policy_table(metrics: Mapping[str, Any]) -> Table:
    """One row per policy: mean IoU before and after over all instances, and the gain by size."""
    gains = metrics["gains"]
    sizes = list(next(iter(gains.values()))["size"])
    rows: list[list[Cell]] = []
    for name, parts in gains.items():
        by_size = [_gain(parts["size"][size]) for size in sizes]
        rows.append([name, *_figures(parts["all"]["all"]), *by_size])
    note = (
        "Mean IoU to the labelled masks of what a teacher that did not see the image predicted, "
        "before and after refinement; intervals by bootstrap over images. refine.policy=auto takes "
        "the policy whose interval has the highest lower end. Every policy's figures by size and "
        "class, with their intervals, are in the output of --json."
    )
    heads = ["policy", *HEADS, *(f"gain, {size}" for size in sizes)]
    return Table("Policies", heads, rows, note, best={"after": "max"})


def part_table(metrics: Mapping[str, Any], names: Mapping[int, str]) -> Table:
    """The best policy by size and by class, and whether ``refine.policy: auto`` refines there."""
    best, off = metrics["best"], metrics["off"]
    gains = metrics["gains"][best]
    rows: list[list[Cell]] = []
    for size, gain in metrics["sizes"].items():
        rows.append([size, *_figures(gain), _switch(size in off["sizes"])])
    for key, name in names.items():
        switch = _switch(key in off["classes"])
        rows.append([name, *_figures(gains["class"][str(key)]), switch])
    note = (
        "Sizes are of the teacher's masks, of the classes that auto refines: small below 32 x 32 "
        "pixels, medium below 96 x 96."
    )
    chosen = metrics["chosen"]
    title = f"Best: {best}" if chosen else f"Too few instances to choose by; auto takes: {best}"
    return Table(title, ["", *HEADS, "auto"], rows, note, tones=_ON_OFF)


def _figures(gain: Mapping[str, Any]) -> list[Cell]:
    interval = None if gain["low"] is None else f"{gain['low']:+.3f} to {gain['high']:+.3f}"
    return [gain["instances"], gain["before"], gain["after"], _gain(gain), interval]


def _gain(gain: Mapping[str, Any]) -> str | None:
    return None if gain["after"] is None else f"{gain['after'] - gain['before']:+.3f}"


def _switch(off: bool) -> str:
    return "off" if off else "on"
