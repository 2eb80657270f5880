"""What a stage tells the person at the terminal: messages and progress, on standard error."""

from __future__ import annotations

import time
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

LOG_SECONDS = 30.0
"""Without a terminal, a line of progress at most this often."""


class _RateColumn(ProgressColumn):
    """Items a second, or seconds an item when slower than one a second."""

    def render(self, task: Task) -> Text:
        speed = task.speed or 0.0
        if not speed:
            return Text("")
        unit = task.fields.get("unit", "")
        text = f"{speed:.1f} {unit}/s" if speed >= 1 else f"{1 / speed:.1f} s/{unit}"
        return Text(text, style="cyan")


class Reporter:
    """Messages and progress bars on standard error; plain lines where it is no terminal.

    Args:
        quiet: Say nothing but warnings.
    """

    def __init__(self, quiet: bool = False) -> None:
        self.console = Console(stderr=True, highlight=False)
        self._quiet = quiet

    def say(self, message: str) -> None:
        """Tell the user something."""
        if not self._quiet:
            self.console.print(message, markup=False, soft_wrap=True)

    def warn(self, message: str) -> None:
        """Tell the user what may be wrong."""
        self.console.print(f"warning: {message}", style="yellow", markup=False, soft_wrap=True)

    @contextmanager
    def progress(
        self, description: str, total: int, done: int = 0, unit: str = "images"
    ) -> Iterator[Callable[[int, str], None]]:
        """Show progress; the callback takes the number of items done since the last call.

        Args:
            description: The stage's name.
            total: Items in all.
            done: Items that an earlier try did.
            unit: What an item is.
        """
        if not self.console.is_terminal or self._quiet:
            yield _Lines(self, description, total, done, unit)
            return
        columns = (
            TextColumn("{task.description}"),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            _RateColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
        )
        with Progress(*columns, console=self.console, speed_estimate_period=60) as bars:
            task = bars.add_task(description, total=total, completed=done, unit=unit, note="")

            def advance(count: int, note: str = "") -> None:
                bars.update(task, advance=count, note=note)

            yield advance


class _Lines:
    """Progress as an occasional line of text."""

    def __init__(self, reporter: Reporter, name: str, total: int, done: int, unit: str) -> None:
        self._reporter, self._name, self._total, self._unit = reporter, name, total, unit
        self._done = self._first = done
        self._start = self._said = time.monotonic()

    def __call__(self, count: int, note: str = "") -> None:
        if not count:
            return
        self._done += count
        now = time.monotonic()
        if now - self._said < LOG_SECONDS and self._done < self._total:
            return
        self._said = now
        rate = (self._done - self._first) / max(now - self._start, 1e-9)
        left = (self._total - self._done) / rate if rate else 0.0
        self._reporter.say(
            f"{self._name}: {self._done}/{self._total} {self._unit}, {rate:.2f}/s, "
            f"{left:.0f} s left{', ' + note if note else ''}"
        )
