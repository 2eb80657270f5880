"""What a stage tells the person at the terminal: messages and progress, on standard error."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console

from s4m_pipeline.console.printable import printable

LOG_SECONDS = 30.0
"""Seconds between two lines of progress where there is no terminal."""


class Reporter:
    """Messages and progress bars on standard error; plain lines where that is not a terminal.

    Args:
        quiet: Say nothing but warnings.
    """

    def __init__(self, quiet: bool = False) -> None:
        self.console = Console(stderr=True, highlight=False)
        self._quiet = quiet
        self._told: set[str] = set()

    def say(self, message: str) -> None:
        """Tell the user something."""
        if not self._quiet:
            self.console.print(printable(message), markup=False, soft_wrap=True)

    def say_once(self, message: str) -> None:
        """Tell the user something, but the same thing only once."""
        if message not in self._told:
            self._told.add(message)
            self.say(message)

    def warn(self, message: str) -> None:
        """Tell the user what may be wrong."""
        text = printable(f"warning: {message}")
        self.console.print(text, style="yellow", markup=False, soft_wrap=True)

    def warn_once(self, message: str) -> None:
        """Warn as ``warn`` does, but of the same thing only once."""
        if message not in self._told:
            self._told.add(message)
            self.warn(message)

    @contextmanager
    def progress(
        self, description: str, total: int, done: int = 0, unit: str = "images"
    ) -> Iterator[Callable[[int, str], None]]:
        """Show progress; the callback takes the number of items done since the last call.

        Args:
            description: The stage's name.
            total: Items in all.
            done: Items that an earlier run finished.
            unit: What an item is.
        """
        if not self.console.is_terminal or self._quiet:
            yield _Lines(self, description, total, done, unit)
            return
        from s4m_pipeline.console.progress_bar import progress_bar  # late: `s4m status` shows none

        with progress_bar(self.console, description, total, done, unit) as advance:
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
