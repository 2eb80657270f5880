"""Write the table of trials into docs/reliability.md, from the lines that ``make faults`` left.

python tools/reliability_table.py LINES.jsonl
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from marked_table import day_and_cores, write_table_of_lines

from s4m_pipeline.engine.registry import STAGES


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
    return "\n".join([day_and_cores(), "", _row(head), _row(["---"] * len(head)), *body])


def _row(cells: Iterable[object]) -> str:
    return "| " + " | ".join(str(cell or "") for cell in cells) + " |"


if __name__ == "__main__":
    write_table_of_lines("crashes", table)
