"""What commands that make artifacts share: plan or make, print folders, exit."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import typer

from s4m_pipeline.console.printable import echo
from s4m_pipeline.errors import DONE

if TYPE_CHECKING:
    from s4m_pipeline.artifacts.manifest import Manifest
    from s4m_pipeline.engine.run import Run
    from s4m_pipeline.engine.stage import Stage


def perform_and_print(run: Run, stages: Sequence[Stage], force: bool, dry_run: bool) -> None:
    """Make stages' artifacts and print their folders, or only what would be made."""
    from s4m_pipeline.commands.printing import print_forecast, print_plan
    from s4m_pipeline.workflow.pipeline import run_all

    if dry_run:
        print_plan(run, stages, force)
        if len(stages) == 1:
            print_forecast(run, stages[0], force)
        return
    manifests = run_all(run, stages, force)
    for stage in stages:
        echo(run.folder(stage))
    finish(manifests.values())


def refreshed_stage(run: Run, name: str, refresh: int) -> Stage:
    """The stage that ``--refresh`` names (UsageError where the run has no such refresh)."""
    from s4m_pipeline.engine.registry import stage_named
    from s4m_pipeline.stages.legs import check_refresh

    check_refresh(run.config, refresh)
    return stage_named(name, refresh=refresh)


def finish(manifests: Iterable[Manifest]) -> None:
    """Exit with the highest exit code of some artifacts, where that is not 0."""
    from s4m_pipeline.engine.perform import exit_code

    code = max(exit_code(manifest) for manifest in manifests)
    if code != DONE:
        raise typer.Exit(code)
