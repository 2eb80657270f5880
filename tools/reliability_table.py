"""Write the table of trials into docs/reliability.md, from the lines that ``make faults`` left.

python tools/reliability_table.py LINES.jsonl
"""

from __future__ import annotations

import json
import os
import sys
from collections import Counter
from collections.abc import Iterable
from datetime import date
from pathlib import Path

from s4m_pipeline.engine.registry import STAGES

DOCUMENT = Path(__file__).parents[1] / "docs" / "reliability.md"
BEGIN, END = "<!-- crashes: begin -->", "<!-- crashes: end -->"


def table(lines: Iterable[tuple[str, str, int]]) -> str:
    """The Markdown table: a row for each kind of trial, a column for each stage, sums and day."""
    counts: Counter[tuple[str, str]] = Counter()
    for stage, kind, count in lines:
        counts[kind, stage] += count
    kinds = sorted({kind for kind, _ in counts})
    stages = [stage for stage in STAGES if any(counts[kind, stage] for kind in kinds)]
    head = ["what happens", *(f"`{stage}`" for stage in stages), "all"]
    rows = {kind: [counts[kind, stage] for stage in stages] for kind in kinds}
    rows["all"] = [sum(column) for column in zip(*rows.values(), strict=True)]
    body = [_row([kind, *row, sum(row)]) for kind, row in rows.items()]
    day = f"{date.today().isoformat()}, {os.cpu_count()} processor cores."
    return "\n".join([day, "", _row(head), _row(["---"] * len(head)), *body])


def _row(cells: Iterable[object]) -> str:
    return "| " + " | ".join(str(cell or "") for cell in cells) + " |"


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
