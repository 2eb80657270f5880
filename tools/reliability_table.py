"""Write the table of crashes into docs/reliability.md, from the lines that ``make faults`` left.

python tools/reliability_table.py LINES.jsonl
"""

from __future__ import annotations

import json
import os
import sys
from datetime import date
from pathlib import Path

DOCUMENT = Path(__file__).parents[1] / "docs" / "reliability.md"
BEGIN, END = "<!-- crashes: begin -->", "<!-- crashes: end -->"


def table(lines: list[list[object]]) -> str:
    """The Markdown table of stages, kinds of crash and counts, with its sum and day."""
    rows = [f"| `{stage}` | {kind} | {count} |" for stage, kind, count in lines]
    total = sum(int(str(count)) for *_, count in lines)
    head = ["| stage | killed | times |", "| --- | --- | --- |"]
    day = f"{date.today().isoformat()}, {os.cpu_count()} processor cores."
    return "\n".join([day, "", *head, *rows, f"| all | | {total} |"])


def main() -> None:
    """Read the lines and put the table between its marks."""
    lines = [json.loads(line) for line in Path(sys.argv[1]).read_text().splitlines()]
    text = DOCUMENT.read_text()
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    DOCUMENT.write_text(f"{before}{BEGIN}\n\n{table(lines)}\n\n{END}{after}")
    print(f"wrote {DOCUMENT}")


if __name__ == "__main__":
    main()
