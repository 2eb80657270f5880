"""What the commands of ``s4m data`` print."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from s4m_pipeline.console.printable import echo

if TYPE_CHECKING:
    from s4m_pipeline.data.check.faults import Fault


def print_splits(splits: list[dict[str, Any]], as_json: bool) -> None:
    """Print the files and, on standard error, what is in them."""
    if as_json:
        echo(json.dumps(splits, indent=2))
    for summary in splits:
        images, instances = summary["images"], summary["instances"]
        for part in ("labelled", "validation"):
            if images[part] and not as_json:
                text = f"{part}: {images[part]:,} of {images['all']:,} images, "
                echo(f"{text}{instances[part]:,} of {instances['all']:,} instances", err=True)
        empty = [name for name, counts in summary["per_class"].items() if not counts["labelled"]]
        if not images["unlabelled"]:
            echo(f"warning: no image in unlabelled-{summary['name']}.json", err=True)
        if empty:
            echo(f"warning: no labelled instance of {', '.join(empty)}", err=True)
        for path in () if as_json else summary["files"]:
            echo(path)


def print_faults(faults: list[Fault], as_json: bool) -> None:
    """Print faults and notes, or that there is no fault."""
    if as_json:
        echo(json.dumps([fault_row(fault) for fault in faults], indent=2))
        return
    for fault in faults:
        echo(("note: " if fault.is_note else "") + fault.text)
    if all(fault.is_note for fault in faults):
        echo("no fault found")


def fault_row(fault: Fault) -> dict[str, Any]:
    """A fault as JSON values."""
    return {
        "kind": fault.kind,
        "note": fault.is_note,
        "meaning": fault.meaning,
        "count": fault.count,
        "examples": fault.examples,
    }
