"""Charts as inline SVG: bars and lines with axes, drawn in the page's own colours."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape

WIDTH, HEIGHT = 520, 300
_LEFT, _RIGHT, _TOP, _BOTTOM = 60, 26, 14, 46


@dataclass(slots=True)
class Figure:
    """A chart on a page: its title, the SVG text and a note below."""

    title: str
    svg: str
    note: str = ""


@dataclass(slots=True)
class Series:
    """Values of one colour: ``style`` is a number, 1 to 4, of the page's chart colours.

    For bars ``y`` has one value per bin; for lines ``x`` and ``y`` are points in order of x.
    ``faint`` draws a thin pale line, ``marks`` a dot at each point.
    """

    name: str
    y: Sequence[float]
    style: int = 1
    x: Sequence[float] = field(default_factory=tuple)
    faint: bool = False
    marks: bool = False


def histogram(
    title: str,
    edges: Sequence[float],
    series: Sequence[Series],
    x_label: str,
    y_label: str,
    note: str = "",
    whole: bool = False,
) -> Figure:
    """Stacked bars over bins.

    Args:
        title: The chart's title.
        edges: Bin edges, one more than there are bins.
        series: Counts per bin, stacked from the first up.
        x_label: What is binned.
        y_label: What is counted.
        note: A sentence below.
        whole: Each bin is one whole number, ``edges[i]``, and is labelled in its middle.
    """
    bins = len(edges) - 1
    totals = [sum(s.y[b] for s in series) for b in range(bins)]
    frame = _Frame(edges[0], edges[-1], 0.0, _nice_top(max(totals, default=0), whole_numbers=True))
    parts = frame.grid(
        x_label, y_label, ticks_x=_bin_ticks(edges, whole), offset=0.5 if whole else 0.0
    )
    for b in range(bins):
        base = 0.0
        left, right = frame.x(edges[b]), frame.x(edges[b + 1])
        gap = min(1.5, (right - left) * 0.1)
        span = _short(edges[b]) if whole else f"{_short(edges[b])} to {_short(edges[b + 1])}"
        for s in series:
            if s.y[b] <= 0:
                continue
            low, high = frame.y(base), frame.y(base + s.y[b])
            base += s.y[b]
            tip = escape(f"{span}: {s.y[b]:,.0f} {s.name}")
            parts.append(
                f'<rect class="f{s.style}" x="{left + gap:.2f}" y="{high:.2f}" '
                f'width="{right - left - 2 * gap:.2f}" height="{low - high:.2f}">'
                f"<title>{tip}</title></rect>"
            )
    return Figure(title, _svg(title, parts, _legend(series)), note)


def bars(title: str, names: Sequence[str], series: Sequence[Series], note: str = "") -> Figure:
    """Stacked horizontal bars, one per name, with the total at each bar's end."""
    longest = max((len(name) for name in names), default=0)
    left = min(200.0, 14 + 7.4 * min(longest, 24))
    step, thick = 26.0, 16.0
    totals = [sum(s.y[i] for s in series) for i in range(len(names))]
    top = max([*totals, 1.0])
    room = WIDTH - left - 66
    parts = []
    for i, name in enumerate(names):
        y = 8 + i * step
        shown = name if len(name) <= 24 else name[:23] + "…"
        parts.append(
            f'<text class="tick" x="{left - 8:.1f}" y="{y + thick - 3:.1f}" '
            f'text-anchor="end">{escape(shown)}</text>'
        )
        x = left
        for s in series:
            wide = room * s.y[i] / top
            if wide > 0:
                tip = escape(f"{name}: {s.y[i]:,.0f} {s.name}")
                parts.append(
                    f'<rect class="f{s.style}" x="{x:.2f}" y="{y:.1f}" width="{wide:.2f}" '
                    f'height="{thick}"><title>{tip}</title></rect>'
                )
            x += wide
        parts.append(
            f'<text class="value" x="{x + 6:.2f}" y="{y + thick - 3:.1f}">{totals[i]:,.0f}</text>'
        )
    height = 16 + step * len(names)
    return Figure(title, _svg(title, parts, _legend(series), height), note)


def lines(
    title: str,
    series: Sequence[Series],
    x_label: str,
    y_label: str,
    note: str = "",
    zero: bool = True,
) -> Figure:
    """Lines over numbers; points that are not finite are left out and break nothing.

    Args:
        title: The chart's title.
        series: The lines, each with ``x`` and ``y``.
        x_label: What the x axis counts.
        y_label: What the y axis shows.
        note: A sentence below.
        zero: The y axis starts at 0; else a little below the least value.
    """
    points = [_finite(s) for s in series]
    xs = [x for line in points for x, _ in line]
    ys = [y for line in points for _, y in line]
    low = 0.0 if zero or not ys else min(ys)
    frame = _Frame(
        min([0.0, *xs]),
        max([*xs, 0.0]) or 1.0,
        min(low, *ys, 0.0) if zero and ys else low,
        _nice_top(max(ys, default=1.0)),
    )
    parts = frame.grid(x_label, y_label)
    for s, line in zip(series, points, strict=True):
        path = " ".join(f"{frame.x(x):.2f},{frame.y(y):.2f}" for x, y in line)
        kind = "faint" if s.faint else "line"
        parts.append(f'<polyline class="{kind} s{s.style}" points="{path}"/>')
        if s.marks:
            parts += [
                f'<circle class="f{s.style}" cx="{frame.x(x):.2f}" cy="{frame.y(y):.2f}" r="3.5">'
                f"<title>{escape(f'{s.name}, {x:,.0f}: {_short(y)}')}</title></circle>"
                for x, y in line
            ]
    return Figure(title, _svg(title, parts, _legend(series)), note)


class _Frame:
    """The plot's area: data to drawing units, and the axes."""

    def __init__(self, x0: float, x1: float, y0: float, y1: float) -> None:
        self.x0, self.x1 = x0, x1 if x1 > x0 else x0 + 1
        self.y0, self.y1 = y0, y1 if y1 > y0 else y0 + 1

    def x(self, value: float) -> float:
        return _LEFT + (value - self.x0) / (self.x1 - self.x0) * (WIDTH - _LEFT - _RIGHT)

    def y(self, value: float) -> float:
        return (
            HEIGHT - _BOTTOM - (value - self.y0) / (self.y1 - self.y0) * (HEIGHT - _TOP - _BOTTOM)
        )

    def grid(
        self,
        x_label: str,
        y_label: str,
        ticks_x: Sequence[float] | None = None,
        offset: float = 0.0,
    ) -> list[str]:
        """Grid lines, tick texts and both axes' labels."""
        base = HEIGHT - _BOTTOM
        parts = []
        for tick in _ticks(self.y0, self.y1):
            y = self.y(tick)
            parts.append(
                f'<line class="grid" x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{y:.2f}" y2="{y:.2f}"/>'
            )
            parts.append(
                f'<text class="tick" x="{_LEFT - 7}" y="{y + 4.5:.2f}" '
                f'text-anchor="end">{_short(tick)}</text>'
            )
        for tick in ticks_x if ticks_x is not None else _ticks(self.x0, self.x1):
            parts.append(
                f'<text class="tick" x="{self.x(tick + offset):.2f}" y="{base + 18}" '
                f'text-anchor="middle">{_short(tick)}</text>'
            )
        middle = (_TOP + base) / 2
        parts.append(
            f'<line class="axis" x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{base}" y2="{base}"/>'
        )
        parts.append(
            f'<text class="label" x="{(_LEFT + WIDTH - _RIGHT) / 2}" y="{HEIGHT - 8}" '
            f'text-anchor="middle">{escape(x_label)}</text>'
        )
        parts.append(
            f'<text class="label" transform="translate(14 {middle}) rotate(-90)" '
            f'text-anchor="middle">{escape(y_label)}</text>'
        )
        return parts


def _svg(title: str, parts: Sequence[str], legend: str, height: float = HEIGHT) -> str:
    drawing = (
        f'<svg viewBox="0 0 {WIDTH} {height:g}" role="img" aria-label="{escape(title)}">'
        + "".join(parts)
        + "</svg>"
    )
    return legend + drawing


def _legend(series: Sequence[Series]) -> str:
    """Names beside their colours; none where one series stands alone."""
    named = [s for s in series if s.name and not s.faint and any(s.y)]
    if len(named) < 2:
        return ""
    items = "".join(f'<li><i class="b{s.style}"></i>{escape(s.name)}</li>' for s in named)
    return f'<ul class="legend">{items}</ul>'


def _finite(series: Series) -> list[tuple[float, float]]:
    pairs = zip(series.x, series.y, strict=True)
    return [(x, y) for x, y in pairs if math.isfinite(x) and math.isfinite(y)]


def _bin_ticks(edges: Sequence[float], whole: bool) -> list[float]:
    """Up to about ten bin edges (or whole bins) to label."""
    values = list(edges[:-1] if whole else edges)
    step = max(1, math.ceil((len(values) - 1) / 10))
    return values[::step]


def _step(span: float, count: int = 5) -> float:
    """A round step (1, 2 or 5 times a power of ten) that cuts a span in about ``count``."""
    rough = max(span, 1e-12) / count
    power = 10.0 ** math.floor(math.log10(rough))
    return next((m * power for m in (1, 2, 5) if m * power >= rough * 0.999), 10 * power)


def _ticks(low: float, high: float) -> list[float]:
    step = _step(high - low)
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [round(i * step, 10) for i in range(first, last + 1)]


def _nice_top(value: float, whole_numbers: bool = False) -> float:
    """The axis's upper end: the next round step at or above the largest value."""
    if value <= 0 or not math.isfinite(value):
        return 1.0
    step = _step(value)
    if whole_numbers:
        step = max(1.0, step)
    return math.ceil(value / step - 1e-9) * step


def _short(value: float) -> str:
    """A number in few characters: 15,000 as 15k, 0.30 as 0.3, 0.0001 as 1e-4."""
    if abs(value) >= 1e6:
        return f"{value / 1e6:g}M"
    if abs(value) >= 10_000:
        return f"{value / 1e3:g}k"
    if 0 < abs(value) < 1e-3:
        digits, power = f"{value:.2e}".split("e")
        return f"{float(digits):g}e{int(power)}"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
