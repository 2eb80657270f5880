"""Ctrl-C while OpenMMLab's packages are loaded."""

from __future__ import annotations

import signal
import subprocess
import sys

SCRIPT = """
import importlib.abc, os, signal, sys

number = signal.{number}
{before}

class Interrupt(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name == "mmengine._strategy.fsdp":
            sys.meta_path.remove(self)
            os.kill(os.getpid(), number)

sys.meta_path.insert(0, Interrupt())
try:
    import s4m_pipeline.models.openmmlab as openmmlab
    openmmlab.make_importable()
except KeyboardInterrupt:
    print("interrupted")
else:
    print("went on")
"""


def _ended(number: str, before: str) -> subprocess.CompletedProcess[str]:
    script = SCRIPT.format(number=number, before=before)
    return subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=300, check=False
    )


def test_an_interrupt_that_mmengine_would_swallow_is_raised() -> None:
    # a shell in the background ignores it, and so does all that it starts
    done = _ended("SIGINT", "signal.signal(signal.SIGINT, signal.default_int_handler)")
    assert done.stdout.strip() == "interrupted", done.stderr[-2000:]


def test_a_worker_that_leaves_ctrl_c_to_its_parent_goes_on() -> None:
    done = _ended("SIGINT", "signal.signal(signal.SIGINT, signal.SIG_IGN)")
    assert (done.stdout.strip(), done.stderr) == ("went on", "")


def test_a_worker_that_is_told_to_end_ends_without_a_traceback() -> None:
    done = _ended("SIGTERM", "")
    assert (done.returncode, done.stderr) == (-signal.SIGTERM, "")
