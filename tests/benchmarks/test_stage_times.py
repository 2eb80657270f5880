"""The benchmark that takes a finished run apart, on a tiny one."""

from __future__ import annotations

import re
from collections.abc import Callable
from types import ModuleType

import pytest


def test_every_stage_of_a_run_is_timed(
    finished,
    script: Callable[[str], ModuleType],
    ran: Callable[..., list[str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for owner, name, _ in script("stage_times").PARTS:
        monkeypatch.setattr(owner, name, getattr(owner, name))  # the clocks go after the test
    printed = "\n".join(ran("stage_times", str(finished.config), "--images", "2"))
    found = dict(re.findall(r"^(\S+): (\S+) (?:ms an image|s a step)", printed, re.M))
    stages = ("structure", "pseudo-label", "refine", "evaluate")
    assert {*stages, "train-teacher"} == set(found), printed
    assert "train-student: no log with times" in printed, "it has four steps"
    assert all(float(value) > 0 for value in found.values())
    ahead = re.findall(r"in threads ahead, .*: (\S+) ms", printed)
    assert len(ahead) == len(stages)
    assert all(float(value) > 0 for value in ahead), printed
    shares = [float(value) for value in re.findall(r"(\d+) %$", printed, re.M)]
    assert abs(sum(shares) / len(stages) - 100) < 3
