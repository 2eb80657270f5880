"""``s4m artifacts``: look at, check, compare and clear the artifacts of a work folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from s4m_pipeline.artifacts.store import Store
from s4m_pipeline.commands.options import Json, example
from s4m_pipeline.console.printable import echo, one_line

artifacts_app = typer.Typer(help="Look at and clear artifacts.", no_args_is_help=True)

WorkDir = Annotated[
    Path,
    typer.Argument(help="The run's work folder.", show_default=False, exists=True, file_okay=False),
]
Folder = Annotated[
    Path,
    typer.Argument(help="An artifact's folder.", show_default=False, exists=True, file_okay=False),
]


@artifacts_app.command("list", epilog=example("artifacts list work"))
def list_artifacts(work_dir: WorkDir, as_json: Json = False) -> None:
    """List all artifacts, the newest of each stage last."""
    from s4m_pipeline.workflow.artifact_views import list_rows

    rows = list_rows(Store(work_dir))
    if not rows:
        echo(f"no artifacts in {work_dir}", err=True)
    if as_json:
        echo(json.dumps(rows, indent=2))
        return
    for row in rows:
        star = "*" if row["latest"] else " "
        line = f"{star} {row['stage']:14} {row['fingerprint']} {row['state']:10} {row['made']}"
        echo(one_line(line))


@artifacts_app.command("show", epilog=example("artifacts show work/refine/0123456789abcdef"))
def show(folder: Folder) -> None:
    """Print an artifact's manifest."""
    from s4m_pipeline.workflow.artifact_views import artifact_manifest

    text = json.dumps(artifact_manifest(folder).to_dict(), indent=2, ensure_ascii=False)
    echo(text)


@artifacts_app.command("verify", epilog=example("artifacts verify work/refine/0123456789abcdef"))
def verify(folder: Folder) -> None:
    """Compare an artifact's files with its manifest, digests included."""
    from s4m_pipeline.workflow.artifact_views import verify_artifact

    echo(verify_artifact(folder))


@artifacts_app.command(
    "diff",
    epilog=example("artifacts diff work/refine/0123456789abcdef work/refine/fedcba9876543210"),
)
def diff(first: Folder, second: Folder) -> None:
    """Say how two artifacts differ in settings, inputs, counts and metrics."""
    from s4m_pipeline.workflow.artifact_views import differences

    for line in differences(first, second):
        echo(line)


@artifacts_app.command(
    "set-aside", epilog=example("artifacts set-aside work/refine/0123456789abcdef")
)
def put_aside(folder: Folder) -> None:
    """Move a damaged artifact out of the way, so that its command makes it anew.

    It stays in WORK_DIR/STAGE/.replaced until 's4m artifacts gc --remove'.
    """
    from s4m_pipeline.artifacts.collecting import set_aside
    from s4m_pipeline.engine.registry import STAGES

    echo(set_aside(folder, STAGES))


@artifacts_app.command("gc", epilog=example("artifacts gc work --remove"))
def collect(
    work_dir: WorkDir,
    remove: Annotated[
        bool, typer.Option("--remove", help="Delete them; without this they are only listed.")
    ] = False,
) -> None:
    """List or delete what no stage needs any more: replaced, unfinished and older artifacts."""
    from s4m_pipeline.artifacts.collecting import leftovers
    from s4m_pipeline.artifacts.collecting import remove as remove_leftover
    from s4m_pipeline.engine.registry import STAGES

    store = Store(work_dir)
    found = leftovers(store, STAGES)
    if all(leftover.why_kept for leftover in found):
        message = "nothing to remove" if store.artifacts() else "no artifacts"
        echo(f"{message} in {work_dir}", err=True)
    for leftover in found:
        name = one_line(str(leftover.path))
        if leftover.why_kept:
            echo(f"{name} is left alone: {leftover.why_kept}", err=True)
            continue
        if remove:
            remove_leftover(store, leftover)
        echo(f"{'removed ' if remove else ''}{name}")


def add_to(app: typer.Typer) -> None:
    """Register these commands."""
    app.add_typer(artifacts_app, name="artifacts")
