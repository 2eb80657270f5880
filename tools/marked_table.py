"""What stands between two marks of a document, and is made by a script.

A mark is a comment of Markdown: ``<!-- NAME: begin -->`` and ``<!-- NAME: end -->``.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

RELIABILITY = Path(__file__).parents[1] / "docs" / "reliability.md"
"""The document of the tables that the trials of ``make`` leave lines for."""


def marks(name: str) -> tuple[str, str]:
    """The mark before and the one after what has this name."""
    return f"<!-- {name}: begin -->", f"<!-- {name}: end -->"


def write_between_marks(document: Path, name: str, text: str) -> None:
    """Replace what stands between two marks of a document.

    Raises:
        ValueError: The document has not both marks, once each.
    """
    begin, end = marks(name)
    before = document.read_text(encoding="utf-8")
    if before.count(begin) != 1 or before.count(end) != 1:
        raise ValueError(f"{document}: {begin} and {end} must stand in it once each")
    pattern = re.compile(f"(?<={re.escape(begin)}).*(?={re.escape(end)})", re.DOTALL)
    after = pattern.sub(lambda _: f"\n\n{text}\n\n", before)
    document.write_text(after, encoding="utf-8")


def day_and_cores() -> str:
    """When and where a table was made, for its first line."""
    return f"{date.today().isoformat()}, {os.cpu_count()} processor cores."


def write_table_of_lines(name: str, table: Callable[[Any], str]) -> None:
    """Make a table of the JSON lines in the file that the command names, and put it in its place.

    Args:
        name: Of the marks in docs/reliability.md.
        table: Makes the table.
    """
    lines = [json.loads(line) for line in Path(sys.argv[1]).read_text().splitlines()]
    write_between_marks(RELIABILITY, name, table(lines))
    print(f"wrote {RELIABILITY}")
