"""Stages that are killed, and what they make when they are started again."""

import os
import subprocess
import sys
import time

import pytest
import torch

from s4m_pipeline.artifacts.training_files import CHECKPOINT
from s4m_pipeline.engine.perform import freshness, perform
from s4m_pipeline.stages.train_teacher import TrainTeacher


def weights(folder):
    content = torch.load(folder / CHECKPOINT, weights_only=True)
    return content["state_dict"]


def kill_when(path_exists, command):
    """Start a command and kill it, without a chance to tidy up, once something is there."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE)
    for _ in range(6000):
        if path_exists() or process.poll() is not None:
            break
        time.sleep(0.05)
    ended_itself = process.poll() is not None
    process.kill()
    _, err = process.communicate(timeout=60)
    assert not ended_itself, err.decode()


@pytest.mark.slow
def test_a_killed_training_goes_on_to_the_same_weights(finished, tmp_path):
    copy = finished.copy(tmp_path / "run")
    run = copy.run()
    folder = run.folder(TrainTeacher())
    straight = weights(folder)
    run.store.set_aside("train-teacher", folder.name)
    command = [sys.executable, "-m", "s4m_pipeline.cli", "train-teacher", "-c", str(copy.config)]
    kill_when(lambda: (folder / "mmengine" / "iter_20.pth").is_file(), command)
    assert freshness(copy.run(), TrainTeacher()).state == "unfinished"
    assert not (folder / "manifest.json").exists()
    perform(copy.run(), TrainTeacher())
    resumed = weights(folder)
    assert resumed.keys() == straight.keys()
    for name, value in straight.items():
        assert torch.equal(resumed[name], value), name
