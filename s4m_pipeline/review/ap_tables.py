"""Average precision as tables: over all classes, and class by class."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from s4m_pipeline.review.table import Cell, Table

KINDS = {"segm": "mask", "bbox": "box"}
_MEASURES = {
    "AP": "AP",
    "mAP": "AP",
    "AP50": "AP50",
    "mAP_50": "AP50",
    "AP75": "AP75",
    "mAP_75": "AP75",
    "AP_small": "small",
    "APs": "small",
    "mAP_s": "small",
    "small": "small",
    "AP_medium": "medium",
    "APm": "medium",
    "mAP_m": "medium",
    "medium": "medium",
    "AP_large": "large",
    "APl": "large",
    "mAP_l": "large",
    "large": "large",
    "AR": "AR",
}
_CLASSES = ("per_class", "classes")


def ap_table(metrics: Mapping[str, Any], title: str = "") -> Table:
    """Mask and box AP, a row each, and below them a row a class where the metrics have them.

    Args:
        metrics: Either by kind (``{"segm": {"AP": 0.3, "AP50": 0.5, "per_class": {"cat": 0.4}},
            "bbox": {...}}``) or flat (``{"segm_AP": 0.3}``, ``{"coco/segm_mAP": 0.3}``); a class's
            value is its AP or a mapping of measures. AP is 0 to 1; None, -1 or NaN is no value.
        title: Above the table.

    Returns:
        A table of figures in per cent.
    """
    metrics = {str(key).rpartition("/")[2]: value for key, value in metrics.items()}
    kinds = {kind: _of_kind(metrics, kind) for kind in KINDS}
    heads = [
        head
        for head in dict.fromkeys(_MEASURES.values())
        if any(head in figures for figures in kinds.values())
    ]
    rows: list[list[Cell]] = [
        [f"all classes, {KINDS[kind]}", *(figures.get(head) for head in heads)]
        for kind, figures in kinds.items()
        if figures
    ]
    for kind in KINDS:
        for name, figures in class_figures(metrics, kind).items():
            rows.append([f"{name}, {KINDS[kind]}", *(figures.get(head) for head in heads)])
    return Table(title, ["", *heads], rows, note="AP in per cent, as COCO defines it.", digits=1)


def class_figures(metrics: Mapping[str, Any], kind: str) -> dict[str, dict[str, float | None]]:
    """Measures of each class in per cent, by class name; empty where the metrics have none."""
    inner = metrics.get(kind)
    places: list[Any] = []
    if isinstance(inner, Mapping):
        places += [inner.get(name) for name in _CLASSES]
    places += [metrics.get(f"{kind}_{name}") for name in _CLASSES]
    for place in places:
        if isinstance(place, Mapping):
            return {
                str(name): _measures(value if isinstance(value, Mapping) else {"AP": value})
                for name, value in place.items()
            }
    return {}


def _of_kind(metrics: Mapping[str, Any], kind: str) -> dict[str, float | None]:
    inner = metrics.get(kind)
    if isinstance(inner, Mapping):
        return _measures(inner)
    start = f"{kind}_"
    return _measures({k[len(start) :]: v for k, v in metrics.items() if k.startswith(start)})


def _measures(values: Mapping[str, Any]) -> dict[str, float | None]:
    """Known measures in per cent under their short names; None where there is no value."""
    found: dict[str, float | None] = {}
    for name, value in values.items():
        head = _MEASURES.get(name)
        if head is not None and isinstance(value, (int, float)):
            found[head] = 100.0 * value if value >= 0 else None
    return found
