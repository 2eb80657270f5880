"""The progress bar of a stage at a terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from s4m_pipeline.console.printable import one_line

SPEED_SECONDS = 60.0
"""The speed shown is the mean of this many seconds."""


class _RateColumn(ProgressColumn):
    """Items a second, or seconds an item when slower than one a second."""

    def render(self, task: Task) -> Text:
        speed = task.speed or 0.0
        if not speed:
            return Text("")
        unit = task.fields.get("unit", "")
        text = f"{speed:.1f} {unit}/s" if speed >= 1 else f"{1 / speed:.1f} s/{unit}"
        return Text(text, style="cyan")


@contextmanager
def progress_bar(
    console: Console, description: str, total: int, done: int, unit: str
) -> Iterator[Callable[[int, str], None]]:
    """Show a bar; the callback takes the number of items done since the last call, and a note.

    Args:
        console: Where it is drawn.
        description: The stage's name.
        total: Items in all.
        done: Items that an earlier run finished.
        unit: What an item is.
    """
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=None),
        MofNCompleteColumn(),
        _RateColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}", markup=False),
    )
    with Progress(*columns, console=console, speed_estimate_period=SPEED_SECONDS) as bars:
        task = bars.add_task(one_line(description), total=total, completed=done, unit=unit, note="")

        def advance(count: int, note: str = "") -> None:
            bars.update(task, advance=count, note=one_line(note))

        yield advance
