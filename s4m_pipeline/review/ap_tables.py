"""Average precision as tables: over all classes, class by class, and model beside model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from s4m_pipeline.object_sizes import SIZES
from s4m_pipeline.review.table import Cell, Table

KINDS = {"segm": "mask", "bbox": "box", "boundary": "boundary"}
_MEASURES = {
    "AP": "AP",
    "mAP": "AP",
    "AP50": "AP50",
    "mAP_50": "AP50",
    "AP75": "AP75",
    "mAP_75": "AP75",
    **{
        name: size
        for size in SIZES
        for name in (f"AP_{size}", f"AP{size[0]}", f"mAP_{size[0]}", size)
    },
    "AR": "AR",
}
CHOSEN_HERE = (
    "weights chosen by their figures on these images. Validation that chooses cannot judge: the "
    "figures are higher than on images that chose nothing."
)
_CLASSES = ("per_class", "classes")


def evaluation_tables(metrics: Mapping[str, Any]) -> list[Table]:
    """An evaluation's tables: COCO's AP, its recall by size, Cityscapes' AP; those it has."""
    tables = [ap_table(metrics), _recall_table(metrics), _cityscapes_table(metrics)]
    return [table for table in tables if table.rows]


def ap_table(metrics: Mapping[str, Any], title: str = "") -> Table:
    """Mask, box and boundary AP, one row each, and below them one row per class, if any.

    Args:
        metrics: Either by kind (``{"segm": {"AP": 0.3, "AP50": 0.5, "per_class": {"cat": 0.4}},
            "bbox": {...}}``) or flat (``{"segm_AP": 0.3}``, ``{"coco/segm_mAP": 0.3}``); a class's
            value is its AP or a mapping of measures. AP is 0 to 1; None, -1 and NaN mean none.
        title: The table's title.

    Returns:
        A table of figures in per cent.
    """
    engine = metrics.get("engine")
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
    note = "AP in per cent, as COCO defines it" + (f", by {engine}." if engine else ".")
    return Table(title, ["", *heads], rows, note=note, digits=1)


def _recall_table(metrics: Mapping[str, Any]) -> Table:
    """Average recall of each kind, over all sizes and by size."""
    names = ["AR", *(f"AR_{size}" for size in SIZES)]
    rows: list[list[Cell]] = [
        [f"all classes, {name}", *(_per_cent(metrics[kind].get(key)) for key in names)]
        for kind, name in KINDS.items()
        if isinstance(metrics.get(kind), Mapping) and names[1] in metrics[kind]
    ]
    note = "Average recall in per cent, at most 100 detections per image and class."
    return Table("", ["", "AR", *SIZES], rows, note=note, digits=1)


def _cityscapes_table(metrics: Mapping[str, Any]) -> Table:
    """Cityscapes' AP over all classes and of each."""
    overall = metrics.get("cityscapes")
    rows: list[list[Cell]] = []
    if isinstance(overall, Mapping):
        for name, figures in {"all classes": overall, **overall["per_class"]}.items():
            rows.append([name, *(_per_cent(figures[key]) for key in ("AP", "AP50"))])
    note = "AP in per cent, as Cityscapes defines it."
    return Table("", ["", "AP", "AP50"], rows, note=note, digits=1)


_COMPARED = {
    "mask AP": ("segm", "AP"),
    "AP50": ("segm", "AP50"),
    "AP75": ("segm", "AP75"),
    **{size: ("segm", f"AP_{size}") for size in SIZES},
    "AR": ("segm", "AR"),
    "box AP": ("bbox", "AP"),
    "boundary AP": ("boundary", "AP"),
    "Cityscapes AP": ("cityscapes", "AP"),
    "Cityscapes AP50": ("cityscapes", "AP50"),
}


def side_by_side(models: Mapping[str, Mapping[str, Any]]) -> list[Table]:
    """Compare models by their evaluations on one image set.

    Args:
        models: An evaluation's metrics by the model's name.

    Returns:
        A table with one row per model, its best figure of each column marked, and a table with
        one row per class and one column per model. Figures are in per cent.
    """
    heads = [
        head
        for head, (kind, key) in _COMPARED.items()
        if any(metrics.get(kind, {}).get(key) is not None for metrics in models.values())
    ]
    rows: list[list[Cell]] = []
    for name, metrics in models.items():
        places = [_COMPARED[head] for head in heads]
        rows.append([name, *(_per_cent(metrics.get(kind, {}).get(key)) for kind, key in places)])
    overall = Table("", ["", *heads], rows, best=dict.fromkeys(heads, "max"), digits=1)
    overall.note = "AP in per cent; AP50 to AR are of masks."
    tables = [overall, _classes_side_by_side(models)]
    return [table for table in tables if table.rows]


def _classes_side_by_side(models: Mapping[str, Mapping[str, Any]]) -> Table:
    """Mask AP of each class, one column per model."""
    kind = "segm" if any("segm" in metrics for metrics in models.values()) else "cityscapes"
    figures_of = {name: class_figures(metrics, kind) for name, metrics in models.items()}
    classes = dict.fromkeys(label for figures in figures_of.values() for label in figures)
    rows: list[list[Cell]] = [
        [label, *(figures_of[name].get(label, {}).get("AP") for name in models)]
        for label in classes
    ]
    return Table("", ["mask AP by class", *models], rows, digits=1)


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
    measures: dict[str, float | None] = {}
    for name, value in values.items():
        head = _MEASURES.get(name)
        if head is not None and isinstance(value, (int, float)):
            measures[head] = 100.0 * value if value >= 0 else None
    return measures


def _per_cent(value: Any) -> float | None:
    return 100.0 * value if isinstance(value, (int, float)) else None
