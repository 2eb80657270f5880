"""A small table of figures, shown the same way on a page and in a terminal."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

Cell = str | int | float | None
Goal = Literal["max", "min"]

NOTHING = "–"
LONGEST_FIGURE = 100
"""Characters of a text that may be a figure: looking costs time by the square of them."""
_FIGURE = re.compile(r"[-+−±]?\d[\d,.\s]*(?:\s*(?:%|px|s|ms|min|h|±\s*[\d.]+))*")


@dataclass(slots=True)
class Table:
    """A titled table.

    ``str`` of it is plain text; ``review.terminal`` draws it for a terminal.

    Attributes:
        title: Above the table; may be empty.
        columns: The columns' heads.
        rows: Cells, one per column. Floats are shown with ``digits`` decimals, whole numbers with
            commas, None as a dash.
        note: A sentence below the table; may be empty.
        best: By column head, whether its largest ("max") or smallest ("min") figure is marked.
        digits: Decimals of floats.
        tones: By a cell's text, "good", "warn" or "bad": such cells are coloured.
        column_digits: By column head, decimals where they are not ``digits``.
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    note: str = ""
    best: Mapping[str, Goal] = field(default_factory=dict)
    digits: int = 3
    tones: Mapping[str, str] = field(default_factory=dict)
    column_digits: Mapping[str, int] = field(default_factory=dict)

    def text(self, cell: Cell, column: int) -> str:
        """A cell as it is shown in a column."""
        if cell is None:
            return NOTHING
        if isinstance(cell, bool):
            return "yes" if cell else "no"
        if isinstance(cell, float):
            if math.isnan(cell):
                return NOTHING
            return f"{cell:,.{self.digits_of(column)}f}"
        return f"{cell:,}" if isinstance(cell, int) else str(cell)

    def digits_of(self, column: int) -> int:
        """Decimals of a column's floats."""
        return self.column_digits.get(self.columns[column], self.digits)

    def is_figure_column(self, column: int) -> bool:
        """Whether all cells of a column that hold something are figures."""
        cells = [row[column] for row in self.rows if row[column] not in (None, "", NOTHING)]
        return bool(cells) and all(is_figure(cell) for cell in cells)

    def best_rows(self, column: int) -> set[int]:
        """Rows that hold the column's best figure as shown; none where all are alike."""
        goal = self.best.get(self.columns[column])
        if goal is None:
            return set()
        shown: dict[int, float] = {}
        for place, row in enumerate(self.rows):
            cell = row[column]
            if isinstance(cell, (int, float)) and not isinstance(cell, bool):
                value = round(float(cell), self.digits_of(column))
                if math.isfinite(value):
                    shown[place] = value
        if len(set(shown.values())) < 2:
            return set()
        top = max(shown.values()) if goal == "max" else min(shown.values())
        return {place for place, value in shown.items() if value == top}

    def __str__(self) -> str:
        return "\n".join(plain_lines(self))


def is_figure(cell: Cell) -> bool:
    """Whether a cell is a number or a text such as ``12.3 %`` or ``0.31 ± 0.02``."""
    if isinstance(cell, bool) or cell is None:
        return False
    if isinstance(cell, (int, float)):
        return True
    text = cell.strip()
    return len(text) <= LONGEST_FIGURE and _FIGURE.fullmatch(text) is not None


def plain_lines(table: Table) -> Iterator[str]:
    """Lines of plain text: columns lined up by spaces, figures to the right, a star at the best."""
    figures = [table.is_figure_column(c) for c in range(len(table.columns))]
    best = [table.best_rows(c) for c in range(len(table.columns))]
    body = [
        [
            table.text(cell, c) + ("*" if place in best[c] else " " if best[c] else "")
            for c, cell in enumerate(row)
        ]
        for place, row in enumerate(table.rows)
    ]
    heads = [head + (" " if best[c] else "") for c, head in enumerate(table.columns)]
    widths = [max(len(row[c]) for row in [heads, *body]) for c in range(len(heads))]
    if table.title:
        yield table.title
    for row in [heads, *body]:
        cells = [
            cell.rjust(width) if figure else cell.ljust(width)
            for cell, width, figure in zip(row, widths, figures, strict=True)
        ]
        yield "  ".join(cells).rstrip()
    if table.note:
        yield table.note
