"""``demo``, ``init`` and ``doctor``: commands to begin with."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Annotated

import typer

from s4m_pipeline.commands.options import Json, Overrides, example
from s4m_pipeline.console.printable import echo


def demo(
    overrides: Overrides = None,
    out: Annotated[Path, typer.Option(help="Folder for scenes, artifacts and the page.")] = Path(
        "demo"
    ),
    seed: Annotated[int, typer.Option(help="Seed of scenes and run.")] = 0,
    as_json: Json = False,
) -> None:
    """Run all stages on generated scenes: no network, no files, under ten minutes on two cores."""
    from s4m_pipeline.review.terminal import comparison_table, print_table
    from s4m_pipeline.workflow.demo import run_demo

    result = run_demo(out, seed, overrides)
    if as_json:
        echo(json.dumps({"seed": seed, "rows": result.rows}, indent=2))
    else:
        print_table(comparison_table(result.rows))
    echo(f"pictures: {result.page}  ({result.seconds / 60:.1f} minutes)", err=True)


def init(
    out: Annotated[Path, typer.Argument(help="The file to write.")] = Path("run.yaml"),
    template: Annotated[str, typer.Option(help="Name of a run file that ships with s4m.")] = "run",
) -> None:
    """Write a run's file to start from."""
    from s4m_pipeline.configs import write_run_template

    write_run_template(template, out)
    echo(f"wrote {out}; set the paths in it, then: s4m run -c {shlex.quote(str(out))} --dry-run")


def doctor(as_json: Json = False) -> None:
    """Say what is installed, which device there is, and whether the models' operators work."""
    from s4m_pipeline.workflow.doctor import examine

    report = examine()
    if as_json:
        echo(json.dumps(report, indent=2))
        return
    for name, value in report.items():
        echo(f"{name:24} {value}")


def add_to(app: typer.Typer) -> None:
    """Register these commands."""
    app.command("demo", epilog=example("demo --out demo --seed 1"))(demo)
    app.command("init", epilog=example("init run.yaml --template coco"))(init)
    app.command("doctor", epilog=example("doctor --json"))(doctor)
