"""The processes that load a training's data end when the training is killed."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.execution.test_deaths import ROOT, SOON
from tests.faults.forking import members

DRIVER = """
import time
from torch.utils.data import DataLoader
from s4m_pipeline.models.runner import _begin_worker

class Large:
    def __len__(self):
        return 1000

    def __getitem__(self, number):
        return bytes(10_000_000)  # no pipe holds it, so that it waits to be taken

if __name__ == "__main__":
    batches = iter(DataLoader(
        Large(), batch_size=1, num_workers=3, collate_fn=list, worker_init_fn=_begin_worker
    ))
    next(batches)
    print("begins", flush=True)
    time.sleep(1000)
"""


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks at processes in /proc")
def test_no_loader_outlives_its_training(tmp_path):
    (tmp_path / "driver.py").write_text(DRIVER)
    driver = subprocess.Popen(
        [sys.executable, "driver.py"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        start_new_session=True,
    )
    assert driver.stdout is not None
    assert driver.stdout.readline() == b"begins\n"
    assert len(members(driver.pid)) >= 4
    driver.kill()
    driver.wait()
    driver.stdout.close()
    deadline = time.monotonic() + SOON
    while members(driver.pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert members(driver.pid) == []
