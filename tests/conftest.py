"""Fixtures that all rooms' tests share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

pytest_plugins = ["tests.small_sets", "tests.workshop"]

SHARED = Path(os.environ.get("S4M_SHARED", Path(__file__).resolve().parents[2] / "shared"))


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """The folder of real photographs and weights; skips where it is missing."""
    if not SHARED.is_dir():
        pytest.skip(f"no real data and weights here: {SHARED} is missing (set S4M_SHARED)")
    return SHARED
