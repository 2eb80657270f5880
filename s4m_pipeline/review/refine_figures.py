"""The figures of a pseudo-label or refine artifact, counted from its table."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from s4m_pipeline.artifacts.decision import Decision
from s4m_pipeline.artifacts.table_file import categories_of
from s4m_pipeline.artifacts.tables import read_table
from s4m_pipeline.errors import ArtifactError
from s4m_pipeline.review.charts import Figure, Series, bars, histogram
from s4m_pipeline.review.table import Cell, Table

LIGHT_COLUMNS = ("image_id", "file_name", "instance_id", "category_id", "score")
REFINED_COLUMNS = (*LIGHT_COLUMNS, "agreement", "area_ratio", "decision", "reason_code", "reason")
_STYLES: dict[str, int] = {Decision.REFINED: 1, Decision.KEPT: 2, Decision.DROPPED: 3}
_BINS = 20
_MEASURED = re.compile(r"\s*-?\d[\d.]*(?:e[-+]?\d+)?(?=\s*[<>≤≥])")


@dataclass(slots=True)
class InstanceFigures:
    """The light columns of an instance table as arrays, one element per row.

    For a table of predictions ``agreement`` and ``area_ratio`` are NaN, and ``decision``,
    ``reason_code`` and ``reason`` empty texts.
    """

    image_id: np.ndarray
    file_name: np.ndarray
    category_id: np.ndarray
    score: np.ndarray
    agreement: np.ndarray
    area_ratio: np.ndarray
    decision: np.ndarray
    reason_code: np.ndarray
    reason: np.ndarray
    names: dict[int, str]

    @property
    def labels(self) -> np.ndarray:
        """bool (rows,): whether the row becomes a label, as all but the dropped do."""
        return self.decision != Decision.DROPPED

    def decided(self, decision: Decision) -> int:
        """How many rows have a decision."""
        return int((self.decision == decision).sum())


def read_figures(folder: Path, table: str) -> InstanceFigures:
    """Read the light columns of ``predictions`` or ``refined``; masks stay on disk.

    Raises:
        ArtifactError: The table is damaged, of another format version, or names a category that
            its own list lacks.
    """
    refined = table == "refined"
    data = read_table(folder, table, REFINED_COLUMNS if refined else LIGHT_COLUMNS)
    names = {int(c["id"]): str(c["name"]) for c in categories_of(data)}
    rows = data.num_rows
    category_id = _numbers(data, "category_id").astype(np.int64)
    unknown = sorted(set(category_id.tolist()) - set(names))
    if unknown:
        raise ArtifactError(
            f"{folder}: its {table} name categories {unknown} that it does not list"
        )
    blank = np.full(rows, np.nan)
    texts = np.full(rows, "", dtype=object)
    return InstanceFigures(
        image_id=_numbers(data, "image_id").astype(np.int64),
        file_name=_texts(data, "file_name"),
        category_id=category_id,
        score=_numbers(data, "score"),
        agreement=_numbers(data, "agreement") if refined else blank,
        area_ratio=_numbers(data, "area_ratio") if refined else blank,
        decision=_texts(data, "decision") if refined else texts,
        reason_code=_texts(data, "reason_code") if refined else texts,
        reason=_texts(data, "reason") if refined else texts,
        names=names,
    )


def decision_table(figures: InstanceFigures) -> Table:
    """Decisions and their reasons with count and share of all instances."""
    total = max(len(figures.decision), 1)
    rows: list[list[Cell]] = []
    for decision in Decision:
        chosen = figures.decision == decision
        rows.append([decision.value, "", int(chosen.sum()), f"{100 * chosen.sum() / total:.1f} %"])
        codes = Counter(figures.reason_code[chosen])
        codes.pop("", None)
        for code, count in codes.most_common():
            texts = figures.reason[chosen & (figures.reason_code == code)]
            rows.append(["", _described(code, texts), count, f"{100 * count / total:.1f} %"])
    note = (
        "refined: the segmenter's mask was taken. kept: the teacher's mask stayed. "
        "dropped: the instance does not become a label."
    )
    return Table("Decisions", ["decision", "reason", "instances", "share"], rows, note)


def class_table(figures: InstanceFigures) -> Table:
    """Instances of each class by decision, with the mean agreement of those that are labels."""
    rows: list[list[Cell]] = []
    for category_id, name in figures.names.items():
        chosen = figures.category_id == category_id
        counts = [int((chosen & (figures.decision == d)).sum()) for d in Decision]
        held = chosen & figures.labels
        rows.append(
            [
                name,
                int(chosen.sum()),
                *counts,
                _mean(figures.agreement[held]),
                _median(figures.area_ratio[held]),
            ]
        )
    heads = [
        "class",
        "instances",
        *(d.value for d in Decision),
        "mean agreement",
        "median area ratio",
    ]
    note = (
        "Agreement is the IoU of the teacher's and the segmenter's mask; the area ratio is the "
        "chosen mask's area over the teacher's. Both are of instances that are labels."
    )
    return Table("Classes", heads, rows, note, digits=2)


def prediction_class_table(figures: InstanceFigures, score: float) -> Table:
    """Predictions of each class: all that are stored, and those above a score."""
    rows: list[list[Cell]] = []
    for category_id, name in figures.names.items():
        chosen = figures.category_id == category_id
        above = chosen & (figures.score > score)
        rows.append([name, int(chosen.sum()), int(above.sum()), _mean(figures.score[chosen])])
    heads = ["class", "stored", f"score > {score:g}", "mean score"]
    return Table("Classes", heads, rows, digits=2)


def agreement_chart(figures: InstanceFigures) -> Figure:
    """Histogram of the agreement of labels, by decision; twenty bins from 0 to 1."""
    edges = np.linspace(0, 1, _BINS + 1)
    series = []
    for decision in (Decision.REFINED, Decision.KEPT):
        values = figures.agreement[figures.decision == decision]
        series.append(Series(decision.value, binned(values, edges), _STYLES[decision]))
    note = "IoU of the teacher's mask and the segmenter's, for instances that are labels."
    return histogram("Agreement", edges.tolist(), series, "agreement (IoU)", "instances", note)


def score_chart(figures: InstanceFigures) -> Figure:
    """Histogram of the teacher's scores; twenty bins from 0 to 1."""
    edges = np.linspace(0, 1, _BINS + 1)
    series = [Series("instances", binned(figures.score, edges))]
    return histogram("Scores", edges.tolist(), series, "teacher's score", "instances")


def per_class_chart(figures: InstanceFigures, chosen: np.ndarray) -> Figure:
    """Bars of chosen instances (bool (rows,)) per class, the most common first, at most 30."""
    of = (d.value for d in Decision)
    split = [d for d in of if ((figures.decision == d) & chosen).any()] or [""]
    counts = {
        d: Counter(figures.category_id[chosen & (figures.decision == d)].tolist()) for d in split
    }
    order = sorted(figures.names, key=lambda c: -sum(counts[d][c] for d in split))
    shown = order[:30]
    series = [
        Series(d or "instances", [counts[d][c] for c in shown], _STYLES.get(d, 1)) for d in split
    ]
    note = f"The {len(shown)} most common of {len(order)} classes." if len(order) > 30 else ""
    return bars("Instances per class", [figures.names[c] for c in shown], series, note)


def per_image_chart(figures: InstanceFigures, chosen: np.ndarray, images: int) -> Figure:
    """Histogram of chosen instances (bool (rows,)) per image, images without any as 0.

    Args:
        figures: The table's figures.
        chosen: The rows to count.
        images: All images of the artifact.
    """
    counts = instances_per_image(figures, chosen, images)
    top = int(counts.max(initial=0))
    width = max(1, -(-(top + 1) // _BINS))
    edges = np.arange(0, top + width + 1, width, dtype=float)
    series = [Series("images", binned(counts, edges))]
    return histogram(
        "Instances per image", edges.tolist(), series, "instances", "images", whole=width == 1
    )


def instances_per_image(figures: InstanceFigures, chosen: np.ndarray, images: int) -> np.ndarray:
    """Count chosen rows of every image, in no particular order: int (images,)."""
    _, counts = np.unique(figures.image_id[chosen], return_counts=True)
    return np.concatenate([counts, np.zeros(max(images - len(counts), 0), dtype=counts.dtype)])


def binned(values: np.ndarray, edges: np.ndarray) -> list[float]:
    """Count the finite values of each bin; the last bin holds its upper edge too."""
    kept = values[np.isfinite(values)]
    return [float(count) for count in np.histogram(kept, bins=edges)[0]]


def _described(code: str, reasons: Iterable[str]) -> str:
    """A reason for people: its sentence where all rows share it, else the words of its code."""
    plain = {plain_reason(reason) for reason in reasons}
    return plain.pop() if len(plain) == 1 else code.replace("_", " ")


def plain_reason(reason: str) -> str:
    """A reason without what was measured: ``agreement 0.12 < 0.3`` as ``agreement < 0.3``."""
    return _MEASURED.sub("", reason).strip()


def _numbers(data: pa.Table, column: str) -> np.ndarray:
    """A column as float64 or integers; null becomes NaN."""
    return np.asarray(data.column(column).to_numpy())


def _texts(data: pa.Table, column: str) -> np.ndarray:
    values: Sequence[Any] = data.column(column).to_pylist()
    return np.array([value or "" for value in values], dtype=object)


def _mean(values: np.ndarray) -> float | None:
    kept = values[np.isfinite(values)]
    return float(kept.mean()) if len(kept) else None


def _median(values: np.ndarray) -> float | None:
    kept = values[np.isfinite(values)]
    return float(np.median(kept)) if len(kept) else None
