"""Loss and validation curves from a training's log (JSON lines)."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from s4m_pipeline.errors import ArtifactError
from s4m_pipeline.review.charts import Figure, Series, lines
from s4m_pipeline.strict_json import read_json

MOST_POINTS = 400
_SMOOTHED = 25  # points that the smooth line's window spans at most
_AP = {"segm_mAP": "AP", "segm_mAP_50": "AP50", "segm_mAP_75": "AP75"}


@dataclass(slots=True)
class TrainingLog:
    """What a log holds: per key, the value at each iteration, in order of iterations.

    Where a resumed training logged an iteration twice, its later value counts. ``damaged`` is the
    number of lines that could not be read (a killed process can leave half a line).
    """

    values: dict[str, dict[int, float]] = field(default_factory=dict)
    damaged: int = 0

    def series(self, key: str) -> tuple[list[float], list[float]]:
        """Iterations and values of a key, sorted by iteration."""
        pairs = sorted(self.values.get(key, {}).items())
        return [float(x) for x, _ in pairs], [y for _, y in pairs]


def read_log(path: Path) -> TrainingLog:
    """Read a training's log.

    Args:
        path: JSON lines, each a mapping with ``iteration`` and numbers, or with mappings of
            numbers such as ``losses`` and ``validation``. A key's part up to its last "/" is
            left out, so that ``coco/segm_mAP`` is ``segm_mAP``.

    Raises:
        ArtifactError: The file is missing or cannot be read.
    """
    log = TrainingLog()
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise ArtifactError(f"{path}: {error.strerror or error}") from error
    for line in text.splitlines():
        if not line.strip():
            continue
        entry = _entry(line)
        if entry is None:
            log.damaged += 1
            continue
        iteration, numbers = entry
        for key, value in numbers.items():
            log.values.setdefault(key, {})[iteration] = value
    return log


def training_figures(log: TrainingLog) -> list[Figure]:
    """Charts of a log: the whole loss, its parts, validation AP, learning rate, as there are."""
    figures = [chart for chart in (_loss(log), _parts(log), _ap(log), _rate(log)) if chart]
    if figures and log.damaged:
        lost = "1 line" if log.damaged == 1 else f"{log.damaged} lines"
        figures[0].note = f"{lost} of the log could not be read."
    return figures


def last_value(log: TrainingLog, key: str) -> tuple[int, float] | None:
    """The last iteration at which a key was logged, and its value there; None without any."""
    known = log.values.get(key)
    if not known:
        return None
    iteration = max(known)
    return iteration, known[iteration]


def smooth(values: list[float], window: int) -> list[float]:
    """Mean over a centred window, shorter at both ends; values that are not finite are left out."""
    half = max(window // 2, 0)
    smoothed = []
    for place in range(len(values)):
        near = [v for v in values[max(0, place - half) : place + half + 1] if math.isfinite(v)]
        smoothed.append(sum(near) / len(near) if near else math.nan)
    return smoothed


def thin(xs: list[float], ys: list[float], most: int = MOST_POINTS) -> tuple[list[float], ...]:
    """Mean over runs of neighbours, so that at most ``most`` points are drawn."""
    run = -(-len(xs) // most) if xs else 1
    if run <= 1:
        return xs, ys
    starts = range(0, len(xs), run)
    return (
        [sum(xs[s : s + run]) / len(xs[s : s + run]) for s in starts],
        [sum(ys[s : s + run]) / len(ys[s : s + run]) for s in starts],
    )


def _entry(line: str) -> tuple[int, dict[str, float]] | None:
    """Iteration and numbers of a line; inner mappings are laid flat under their own keys."""
    try:
        data: Any = read_json(line)
        iteration = int(data["iteration"])
        flat: dict[str, Any] = {}
        for key, value in data.items():
            flat.update(value if isinstance(value, dict) else {key: value})
        numbers = {
            key.rpartition("/")[2]: float(value)
            for key, value in flat.items()
            if key != "iteration" and type(value) in (int, float)
        }
        float(iteration)
    except (ValueError, KeyError, TypeError, OverflowError):
        return None
    return iteration, numbers


def _loss(log: TrainingLog) -> Figure | None:
    xs, ys = thin(*log.series("loss"))
    if not xs:
        return None
    window = max(3, min(_SMOOTHED, len(ys) // 5))
    series = [
        Series("as logged", ys, 1, xs, faint=True),
        Series("loss", smooth(ys, window), 1, xs),
    ]
    return lines("Loss", series, "iteration", "loss")


def _parts(log: TrainingLog) -> Figure | None:
    """The four largest parts of the loss at the end; decoder layers' own (``d0.``...) left out."""
    names = [
        key
        for key in log.values
        if key.rsplit(".", 1)[-1].startswith("loss_") and not _of_inner_layer(key)
    ]
    curves = {name: thin(*log.series(name)) for name in names}
    last = {name: abs(last[1]) for name in names if (last := last_value(log, name))}
    largest = sorted((n for n in last if math.isfinite(last[n])), key=lambda n: -last[n])[:4]
    if len(largest) < 2:
        return None
    series = []
    for style, name in enumerate(sorted(largest), start=1):
        xs, ys = curves[name]
        window = max(3, min(_SMOOTHED, len(ys) // 5))
        series.append(Series(name.replace("loss_", ""), smooth(ys, window), style, xs))
    note = "" if len(names) <= 4 else f"The four largest of {len(names)} at the end."
    return lines("Parts of the loss", series, "iteration", "loss", note)


def _of_inner_layer(key: str) -> bool:
    return any(part[:1] == "d" and part[1:].isdigit() for part in key.split("."))


def _ap(log: TrainingLog) -> Figure | None:
    series = []
    for style, (key, name) in enumerate(_AP.items(), start=1):
        xs, ys = log.series(key)
        if xs:
            series.append(Series(name, [100 * y for y in ys], style, xs, marks=True))
    if not series:
        return None
    return lines("Validation", series, "iteration", "mask AP (%)")


def _rate(log: TrainingLog) -> Figure | None:
    xs, ys = thin(*log.series("learning_rate"))
    if len(xs) < 2:
        return None
    return lines(
        "Learning rate", [Series("learning rate", ys, 4, xs)], "iteration", "learning rate"
    )
