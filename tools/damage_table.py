"""Write the table of damage into docs/reliability.md, from the lines that ``make faults`` left.

python tools/damage_table.py LINES.jsonl
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from marked_table import day_and_cores, write_table_of_lines

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
    return "\n".join([day_and_cores(), "", *head, *rows, f"| all | | | {sum(counts.values())} |"])


def _in_order(item: tuple[tuple[str, str, str], int]) -> tuple[int, str, str]:
    (where, stage, what), _ = item
    return [*WHERE].index(where), stage, what


if __name__ == "__main__":
    write_table_of_lines("damage", table)
