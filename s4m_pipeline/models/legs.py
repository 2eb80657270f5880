"""A training that is cut into legs: each goes on from the state that the one before left.

A leg ends as if it had been stopped from the outside just after a checkpoint, and the next one goes
on as a stopped training does. Its schedules are those of the whole length.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from s4m_pipeline.artifacts.digest_beside import (
    digest_file,
    is_whole_archive,
    remove_with_digest,
    write_digest,
)
from s4m_pipeline.artifacts.plain_files import clear_the_way
from s4m_pipeline.artifacts.training_files import CHECKPOINT, LOG, STATE
from s4m_pipeline.models.keeping import BEST
from s4m_pipeline.models.training_spec import WORK_FOLDER, newest_checkpoint


def take_up(folder: Path, before: Path, iteration: int) -> None:
    """Put a leg's state where the next one goes on from, unless that has begun already.

    Args:
        folder: The next leg's folder, as of ``TrainingSpec``.
        before: The folder of the finished leg; its files are as its manifest says.
        iteration: Where that ended.
    """
    work = folder / WORK_FOLDER
    if is_whole_archive(folder / CHECKPOINT) or newest_checkpoint(work) is not None:
        return
    work.mkdir(parents=True, exist_ok=True)
    log, best = before / LOG, before / STATE / BEST
    if log.is_file():
        _copy(log, folder / LOG)
    remove_with_digest(work / BEST)
    if best.is_file():
        _copy(best, work / BEST)
        write_digest(work / BEST)
    name = _name(iteration)  # last: from then on the leg has begun
    _copy(before / STATE / name, work / name)
    write_digest(work / name)


def has_state(folder: Path, work: Path, iteration: int) -> bool:
    """Whether a leg that ended at an iteration has its state, in its place or still at work."""
    name = _name(iteration)
    return is_whole_archive(folder / STATE / name) or is_whole_archive(work / name)


def keep_state(folder: Path, work: Path, iteration: int) -> None:
    """Move what the next leg goes on from out of MMEngine's work folder, where it is still there.

    Args:
        folder: The leg's folder.
        work: MMEngine's.
        iteration: Where the leg ended.
    """
    (folder / STATE).mkdir(exist_ok=True)
    for name in (BEST, _name(iteration)):
        for path in (digest_file(work / name), work / name):
            if path.is_file():
                os.replace(path, folder / STATE / path.name)


def _name(iteration: int) -> str:
    return f"iter_{iteration}.pth"


def _copy(source: Path, target: Path) -> None:
    """Copy a file; it appears whole or not at all."""
    unfinished = clear_the_way(target.with_name(f".{target.name}.{os.getpid()}.part"))
    shutil.copyfile(source, unfinished)
    os.replace(unfinished, target)
