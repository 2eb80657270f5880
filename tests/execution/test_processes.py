"""Helpers, from the moment that they are started."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
WORK = """
import signal

HELD_BACK = signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, [])


def work(pipe):
    pipe.send(HELD_BACK)
"""
START = """
import {module}
from s4m_pipeline.execution.processes import Helper

if __name__ == "__main__":
    for _ in range(2):
        helper = Helper({module}.work)
        print(helper.receive())
        helper.end()
"""


def test_ctrl_c_is_held_back_while_the_first_helper_imports_and_the_next(tmp_path: Path) -> None:
    (tmp_path / "imported_by_helper.py").write_text(WORK)
    script = tmp_path / "start.py"
    script.write_text(START.format(module="imported_by_helper"))
    ended = subprocess.run(
        [sys.executable, script],
        capture_output=True,
        text=True,
        timeout=60,
        env={"PYTHONPATH": f"{ROOT}:{tmp_path}"},
    )
    assert ended.stdout.split() == ["True", "True"], ended.stderr
