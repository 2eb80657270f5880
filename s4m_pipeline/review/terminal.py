"""The commands' tables: full or narrow in a terminal, plain anywhere else."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from s4m_pipeline.console.printable import one_line
from s4m_pipeline.review.table import Cell, Table

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

_STYLES = {"good": "green", "warn": "yellow", "bad": "red"}
_STATES = {
    "fresh": "good",
    "stale": "warn",
    "unfinished": "warn",
    "missing": "bad",
    "damaged": "bad",
}
_BEST = "bold green"


def status_table(rows: Sequence[Mapping[str, Any]]) -> Table:
    """Stages and whether their artifacts are fresh.

    Args:
        rows: Mappings with ``stage``, ``state``, ``fingerprint`` and ``why``; the last two may be
            missing or None.
    """
    body: list[list[Cell]] = [
        [str(row["stage"]), str(row["state"]), row.get("fingerprint"), row.get("why") or ""]
        for row in rows
    ]
    return Table("", ["stage", "state", "fingerprint", "why"], body, tones=_STATES)


def comparison_table(rows: Sequence[Mapping[str, Any]], title: str = "") -> Table:
    """Compare named things by their figures, the largest of each column marked.

    Args:
        rows: Mappings with ``name`` and figures by column head; columns come in the order in which
            they are first met, and a figure that a row lacks is shown as a dash. Columns with
            figures above 1.5 (per cent and the like) are shown with one decimal, others with three.
        title: Above the table.
    """
    heads = list(dict.fromkeys(key for row in rows for key in row if key != "name"))
    body: list[list[Cell]] = [
        [str(row.get("name", "")), *(row.get(head) for head in heads)] for row in rows
    ]
    table = Table(title, ["", *heads], body, best={head: "max" for head in heads})
    for column, head in enumerate(heads, start=1):
        floats = [cell for row in body if isinstance(cell := row[column], float)]
        if max(floats, default=0.0) > 1.5:
            table.column_digits = {**table.column_digits, head: 1}
    return table


def print_table(table: Table, console: Console | None = None) -> None:
    """Print a table to standard output or a console; lines fold only in a terminal."""
    from rich.console import Console

    target, table = console or Console(), _printable(table)
    if target.is_terminal:
        target.print(*_drawn(table, target.width), sep="\n")
    else:
        target.print(str(table), soft_wrap=True, markup=False, highlight=False)


def _printable(table: Table) -> Table:
    """The table with nothing in its texts that steers a terminal; they may come from files."""
    return replace(
        table,
        title=one_line(table.title),
        columns=[one_line(head) for head in table.columns],
        rows=[[one_line(c) if isinstance(c, str) else c for c in row] for row in table.rows],
        note=one_line(table.note),
    )


def _drawn(table: Table, width: int) -> Iterator[RenderableType]:
    """A table with rules, or one block per row where the terminal is too narrow for it."""
    from rich.text import Text

    if _fits(table, width):
        yield _grid(table)
    else:
        yield from _blocks(table)
    if table.note:
        yield Text(table.note, style="dim")


def _grid(table: Table) -> RenderableType:
    """The table with rules; the last text column may fold, figures never."""
    from rich import box
    from rich.table import Table as Grid
    from rich.text import Text

    grid = Grid(
        title=Text(table.title) if table.title else None,
        title_justify="left",
        box=box.SIMPLE_HEAD,
        title_style="bold",
        header_style="bold",
        pad_edge=False,
        padding=(0, 1),
    )
    last = len(table.columns) - 1
    for column, head in enumerate(table.columns):
        figure = table.is_figure_column(column)
        grid.add_column(
            Text(head),
            justify="right" if figure else "left",
            no_wrap=figure or column != last,
            overflow="fold",
        )
    for place, row in enumerate(table.rows):
        grid.add_row(*(_styled(table, place, column, cell) for column, cell in enumerate(row)))
    return grid


def _fits(table: Table, width: int) -> bool:
    """Whether the columns that do not fold, and 12 characters of the last, fit a width."""
    total = 0
    for column, head in enumerate(table.columns):
        longest = max([len(head), *(len(table.text(row[column], column)) for row in table.rows)])
        foldable = column == len(table.columns) - 1 and not table.is_figure_column(column)
        total += (min(longest, 12) if foldable else longest) + 2
    return total <= width


def _blocks(table: Table) -> Iterator[RenderableType]:
    """One block per row, for narrow terminals: the first cell, then head and cell line by line."""
    from rich.table import Table as Grid
    from rich.text import Text

    if table.title:
        yield Text(table.title, style="bold")
    for place, row in enumerate(table.rows):
        yield Text(table.text(row[0], 0), style="bold underline")
        grid = Grid.grid(padding=(0, 2))
        grid.add_column(style="dim", overflow="fold")
        grid.add_column(overflow="fold")
        for column in range(1, len(table.columns)):
            if row[column] not in (None, ""):
                grid.add_row(
                    Text("  " + table.columns[column]), _styled(table, place, column, row[column])
                )
        yield grid


def _styled(table: Table, place: int, column: int, cell: Cell) -> RenderableType:
    from rich.text import Text

    text = table.text(cell, column)
    if place in table.best_rows(column):
        return Text(text, style=_BEST)
    return Text(text, style=_STYLES.get(table.tones.get(text, ""), ""))
