"""Write the table of fuzzed readers into docs/reliability.md, from the lines of ``make fuzz``.

python tools/fuzz_table.py LINES.jsonl
"""

from __future__ import annotations

from marked_table import day_and_cores, write_table_of_lines

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
    return "\n".join([day_and_cores(), "", *head, *rows, f"| all | {sum(inputs):,} | {most} |"])


if __name__ == "__main__":
    write_table_of_lines("fuzz", table)
