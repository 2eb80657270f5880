"""The bar of a stage at a terminal."""

from __future__ import annotations

import io

from rich.console import Console

from s4m_pipeline.console.progress_bar import progress_bar
from s4m_pipeline.console.reporter import Reporter


def terminal() -> Console:
    return Console(file=io.StringIO(), force_terminal=True, width=120, color_system=None)


def test_the_bar_starts_at_what_was_done_before_and_shows_counts_and_note():
    console = terminal()
    with progress_bar(console, "refine", total=20, done=5, unit="images") as advance:
        advance(7, "loss 0.5")
    shown = console.file.getvalue()
    assert "refine" in shown
    assert "12/20" in shown
    assert "loss 0.5" in shown


def test_a_reporter_at_a_terminal_shows_a_bar_and_elsewhere_none():
    reporter = Reporter()
    for console, has_bar in ((terminal(), True), (Console(file=io.StringIO()), False)):
        reporter.console = console
        with reporter.progress("refine", 4) as advance:
            advance(3)
        assert ("3/4" in console.file.getvalue()) is has_bar
