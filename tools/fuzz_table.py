"""Write the table of fuzzed readers into docs/reliability.md, from the lines of ``make fuzz``.

python tools/fuzz_table.py LINES.jsonl
"""

from __future__ import annotations

import json
import os
import sys
from datetime import date
from pathlib import Path

DOCUMENT = Path(__file__).parents[1] / "docs" / "reliability.md"
BEGIN, END = "<!-- fuzz: begin -->", "<!-- fuzz: end -->"
MEBIBYTE = 1 << 20

Line = tuple[str, int, int, float, int]
"""A reader's name, its inputs, the largest one in bytes, and the most seconds and bytes of memory
that one took."""


def table(lines: list[Line]) -> str:
    """The Markdown table of readers, with its sums and its day."""
    fed = [line for line in lines if line[1]]
    head = [
        "| reader | inputs | largest input, bytes | longest answer, s | most memory, MiB |",
        "| --- | --- | --- | --- | --- |",
    ]
    rows = [
        f"| {name} | {inputs:,} | {largest or '–'} | {seconds:.2f} | {memory / MEBIBYTE:.0f} |"
        for name, inputs, largest, seconds, memory in fed
    ]
    _, inputs, largest, seconds, memory = zip(*fed, strict=True)
    most = f"{max(largest)} | {max(seconds):.2f} | {max(memory) / MEBIBYTE:.0f}"
    day = f"{date.today().isoformat()}, {os.cpu_count()} processor cores."
    return "\n".join([day, "", *head, *rows, f"| all | {sum(inputs):,} | {most} |"])


def main() -> None:
    """Read the lines and put the table between its marks."""
    lines = [json.loads(line) for line in Path(sys.argv[1]).read_text().splitlines()]
    before, _, rest = DOCUMENT.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    DOCUMENT.write_text(f"{before}{BEGIN}\n\n{table(lines)}\n\n{END}{after}")
    print(f"wrote {DOCUMENT}")


if __name__ == "__main__":
    main()
