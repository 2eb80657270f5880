"""Fixtures that all rooms' tests share."""

from __future__ import annotations

import gc
import importlib
import os
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

# One thread, here and in the commands that tests start: the same bits on every machine, and a
# core for each of pytest's workers. It has to be said before torch is imported.
os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = "1"

pytest_plugins = [
    "tests.file_systems",
    "tests.made_once",
    "tests.small_sets",
    "tests.workshop",
]

SHARED = Path(os.environ.get("S4M_SHARED", Path(__file__).resolve().parents[2] / "shared"))


def pytest_collection_finish() -> None:
    """Take what is imported out of the collections of garbage that every training asks for."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """The folder of real photographs and weights; skips where it is missing."""
    if not SHARED.is_dir():
        pytest.skip(f"no real data and weights here: {SHARED} is missing (set S4M_SHARED)")
    return SHARED


@pytest.fixture
def tool(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], ModuleType]:
    """Import a script of ``tools/`` by its name."""
    monkeypatch.syspath_prepend(Path(__file__).resolve().parents[1] / "tools")
    return importlib.import_module
