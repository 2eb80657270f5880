"""The benchmark scripts as modules of this process."""

from __future__ import annotations

import gc
import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], ModuleType]:
    """Import a benchmark by its name; none collects garbage, which takes longer than all else."""
    monkeypatch.setattr(gc, "collect", lambda: 0)
    monkeypatch.syspath_prepend(FOLDER)
    return importlib.import_module


@pytest.fixture
def ran(
    script: Callable[[str], ModuleType],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Callable[..., list[str]]:
    """Run a benchmark without a GPU; gives the lines that it printed.

    What is given by keyword stands in for the script's own value of that name.
    """

    def run(name: str, *arguments: str, **instead: Any) -> list[str]:
        module = script(name)
        for key, value in instead.items():
            monkeypatch.setattr(module, key, value)
        monkeypatch.setattr(sys, "argv", [f"{name}.py", *arguments])
        monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
        module.main()
        return capsys.readouterr().out.splitlines()

    return run
