"""The benchmark that takes a finished run apart, on a tiny one."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "stage_times.py"


@pytest.mark.slow
def test_every_stage_of_a_run_is_timed(finished) -> None:
    command = [sys.executable, str(SCRIPT), str(finished.config), "--images", "2"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = dict(re.findall(r"^(\S+): (\S+) (?:ms an image|s a step)", done.stdout, re.M))
    stages = ("structure", "pseudo-label", "refine", "evaluate")
    assert {*stages, "train-teacher"} == set(found), done.stdout
    assert "train-student: no log with times" in done.stdout, "it has four steps"
    assert all(float(value) > 0 for value in found.values())
    ahead = re.findall(r"in threads ahead, .*: (\S+) ms", done.stdout)
    assert len(ahead) == len(stages)
    assert all(float(value) > 0 for value in ahead), done.stdout
    shares = [float(value) for value in re.findall(r"(\d+) %$", done.stdout, re.M)]
    assert abs(sum(shares) / len(stages) - 100) < 3
