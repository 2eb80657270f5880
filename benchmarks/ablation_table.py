"""The ablation's table: mean and spread over the seeds."""

from __future__ import annotations

import json
from pathlib import Path
from statistics import mean, stdev
from typing import Any

COLUMNS = {
    "AP": "mask AP",
    "AP50": "AP50",
    "AP75": "AP75",
    "refined precision": "labels' precision",
    "refined recall": "recall",
    "refined mean_best_iou": "mean IoU",
}


def read_log(log: Path) -> dict[tuple[str, str], dict[int, dict[str, Any]]]:
    """The last figures of each row and set, by seed."""
    found: dict[tuple[str, str], dict[int, dict[str, Any]]] = {}
    for text in log.read_text().splitlines():
        line = json.loads(text)
        found.setdefault((line["set"], line["row"]), {})[line["seed"]] = line
    return found


def _cell(values: list[float], digits: int) -> str:
    if not values:
        return ""
    spread = f" ± {stdev(values):.{digits}f}" if len(values) > 1 else ""
    return f"{mean(values):.{digits}f}{spread}"


def table_lines(log: Path, order: list[str]) -> list[str]:
    """One Markdown table a data set; rows in ``order``, those without figures left out."""
    found = read_log(log)
    lines: list[str] = []
    for name in dict.fromkeys(key[0] for key in found):
        lines += ["", f"**{name}**", "", f"| row | seeds | {' | '.join(COLUMNS.values())} |"]
        lines.append("| --- " * (2 + len(COLUMNS)) + "|")
        others = [key[1] for key in found if key[0] == name and key[1] not in order]
        for row in [*order, *others]:
            seeds = found.get((name, row))
            if not seeds:
                continue
            cells = [
                _cell(
                    [f[key] for f in seeds.values() if f.get(key) is not None],
                    1 if key.startswith("AP") else 3,
                )
                for key in COLUMNS
            ]
            listed = ", ".join(str(seed) for seed in sorted(seeds))
            lines.append(f"| {row} | {listed} | {' | '.join(cells)} |")
    return lines[1:]


def write_table(log: Path, path: Path, order: list[str]) -> None:
    """Write the tables as Markdown."""
    path.write_text("\n".join(table_lines(log, order)) + "\n")
