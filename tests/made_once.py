"""What is slow to make and needed by several tests, made once for all of pytest's workers."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock

MadeOnce = Callable[[str, Callable[[Path], object]], Path]


@pytest.fixture(scope="session")
def made_once(tmp_path_factory: pytest.TempPathFactory) -> MadeOnce:
    """Call ``make`` with an empty folder, the first time that any worker asks for ``name``.

    The folder that comes back is all workers': read it, and copy it before anything changes it.
    """
    everyones = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        everyones = everyones.parent

    def folder_of(name: str, make: Callable[[Path], object]) -> Path:
        folder = everyones / f"once-{name}"
        with FileLock(f"{folder}.lock"):
            if not folder.is_dir():
                unfinished = everyones / f"unfinished-{name}"
                shutil.rmtree(unfinished, ignore_errors=True)
                unfinished.mkdir()
                make(unfinished)
                unfinished.rename(folder)
        return folder

    return folder_of
