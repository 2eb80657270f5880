"""Ctrl-C while OpenMMLab's packages are loaded."""

from __future__ import annotations

import subprocess
import sys

SCRIPT = """
import importlib.abc, os, signal, sys

class Interrupt(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name == "mmengine._strategy.fsdp":
            sys.meta_path.remove(self)
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Interrupt())
try:
    import s4m_pipeline.models.openmmlab as openmmlab
    openmmlab.make_importable()
except KeyboardInterrupt:
    print("interrupted")
else:
    print("went on")
"""


def test_an_interrupt_that_mmengine_would_swallow_is_raised() -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.stdout.strip() == "interrupted", done.stderr[-2000:]
