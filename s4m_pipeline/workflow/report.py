"""The page about a stage's artifact."""

from __future__ import annotations

from pathlib import Path

from s4m_pipeline.artifacts.manifest import file_fault
from s4m_pipeline.artifacts.training_files import LOG
from s4m_pipeline.engine.registry import (
    STAGES,
    check_round,
    stage_class,
    stage_named,
    stages_with_page,
)
from s4m_pipeline.engine.run import Run
from s4m_pipeline.engine.stage import Stage
from s4m_pipeline.errors import ArtifactError, UsageError
from s4m_pipeline.late import load
from s4m_pipeline.review.page import is_page
from s4m_pipeline.stages.legs import check_refresh

SHOWN = ("refined", "predictions", "quarantine")
"""The tables that pages read. Structural maps, of which they show nothing, may have gigabytes."""


def write_stage_report(
    run: Run, name: str, out: Path, limit: int, number: int = 1, refresh: int = 0
) -> None:
    """Write the page about a stage's artifact, as the run's configuration asks for it.

    Args:
        run: The run.
        name: The stage's name.
        out: The HTML file to write.
        limit: Images to show at most.
        number: The round, from 1.
        refresh: The refresh in it; 0 for what belongs to none.

    Raises:
        UsageError: There is no page about such a stage, round or refresh, its artifact is not
            there, or ``out`` is a file of another kind.
    """
    stage = _stage(run, name, number, refresh)
    check_out(out)
    folder = run.require(stage, tables=SHOWN)
    _look_at_log(run, stage)
    load(STAGES[name].page)(run, folder, out, limit)


def check_out(out: Path) -> None:
    """Refuse to write a page over a file that is no page (UsageError)."""
    if out.is_dir():
        raise UsageError(f"--out is a folder, not a file: {out}")
    if out.exists() and not (out.is_file() and is_page(out)):
        raise UsageError(f"--out is there already and is no page that s4m wrote: {out}")


def _look_at_log(run: Run, stage: Stage) -> None:
    """Warn of a training's log that is not as it was written (ArtifactError for none)."""
    folder = run.folder(stage)
    for entry in run.store.manifest(stage.name, run.fingerprint(stage)).files:
        if entry.path == LOG and (fault := file_fault(folder, entry)):
            if not (folder / LOG).is_file():
                raise ArtifactError(
                    f"{folder}/{fault}. There is no page without it; the training is whole."
                )
            run.reporter.warn(f"{folder}/{fault}; its curves may be wrong")


def _stage(run: Run, name: str, number: int, refresh: int) -> Stage:
    """The stage of a round (UsageError where there is no page about it)."""
    check_round(number)
    if name not in stages_with_page():
        names = ", ".join(stages_with_page())
        raise UsageError(f"there is no report of '{name}', only of {names}")
    if not stage_class(name).of_round(run.config, number):
        raise UsageError(f"a round's teacher is the last one's student: there is one {name}")
    if refresh and not STAGES[name].refreshed:
        raise UsageError(f"there is no {name} of a refresh")
    check_refresh(run.config, refresh)
    return stage_named(name, number, refresh=refresh)
