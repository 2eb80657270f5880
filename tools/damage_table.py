"""Write the table of damage into docs/reliability.md, from the lines that ``make faults`` left.

python tools/damage_table.py LINES.jsonl
"""

from __future__ import annotations

import json
import os
import sys
from collections import Counter
from collections.abc import Iterable
from datetime import date
from pathlib import Path

DOCUMENT = Path(__file__).parents[1] / "docs" / "reliability.md"
BEGIN, END = "<!-- damage: begin -->", "<!-- damage: end -->"
WHERE = {
    "verify": "finished, `s4m artifacts verify`",
    "readers": "finished, the stages that read it",
    "stopped": "stopped, and gone on with",
}
"""What a test tries, by the name that its lines begin with."""


def table(lines: Iterable[list[object]]) -> str:
    """The Markdown table of what was damaged, what came of it and how often, with its sum."""
    counts: Counter[tuple[str, str, str]] = Counter()
    for where, stage, what, count in lines:
        counts[str(where), str(stage), str(what)] += int(str(count))
    rows = [
        f"| {WHERE[where]} | `{stage}` | {what} | {count} |"
        for (where, stage, what), count in sorted(counts.items(), key=_in_order)
    ]
    head = ["| artifact | of | what came of it | times |", "| --- | --- | --- | --- |"]
    day = f"{date.today().isoformat()}, {os.cpu_count()} processor cores."
    return "\n".join([day, "", *head, *rows, f"| all | | | {sum(counts.values())} |"])


def _in_order(item: tuple[tuple[str, str, str], int]) -> tuple[int, str, str]:
    (where, stage, what), _ = item
    return [*WHERE].index(where), stage, what


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
