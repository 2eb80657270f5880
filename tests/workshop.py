"""A whole run at tiny size, made once: real mmdet and sam2 code on generated scenes."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from s4m_pipeline.cli import main
from s4m_pipeline.config_file import load_config
from s4m_pipeline.configs import MODELS
from s4m_pipeline.console.reporter import Reporter
from s4m_pipeline.data.scenes.scenes import generate_scenes
from s4m_pipeline.engine.run import Run
from s4m_pipeline.workflow.pipeline import run_all

SIZE = 64

MODEL = f"""
_base_ = ["{MODELS / "mask2former_demo.py"}"]
model = dict(
    backbone=dict(base_channels=16, stem_channels=16),
    panoptic_head=dict(in_channels=[16, 32, 64, 128], num_queries=8),
    train_cfg=dict(num_points=128),
    test_cfg=dict(max_per_image=8),
)
train_pipeline = [
    dict(type="RandomFlip", prob=0.5),
    dict(type="Resize", scale=({SIZE}, {SIZE}), keep_ratio=True),
]
test_scale = ({SIZE}, {SIZE})
start = None
"""

RUN = """
work_dir: work
seed: 1
device: cpu
data:
  labelled:   {images: scenes/labelled, annotations: scenes/labelled.json}
  unlabelled: {images: scenes/unlabelled}
  validation: {images: scenes/validation, annotations: scenes/validation.json}
segmenter:    {name: demo, image_size: 64, batch_size: 2}
structure:    {points: 8, grid: 16}
teacher:      {model: tiny.py, iterations: 40, batch_size: 2, checkpoint_interval: 10, workers: 0,
               learning_rate: 0.002}
pseudo_label: {min_score: 0.02, score: 0.05, min_area: 1, points: 6, batch_size: 2}
refine:       {policy: box+points, candidate: fuse, min_agreement: 0.05}
student:      {model: tiny.py, iterations: 4, batch_size: 2, checkpoint_interval: 2, workers: 0,
               structure_weight: 0.5, class_weight: 0.5, ema: 0.9}
"""


@dataclass(frozen=True)
class Workshop:
    """A folder with scenes and a run's file."""

    folder: Path

    @property
    def config(self) -> Path:
        return self.folder / "run.yaml"

    def run(self, *overrides: str) -> Run:
        return Run(load_config(self.config, overrides), Reporter(quiet=True))

    def copy(self, target: Path) -> Workshop:
        shutil.copytree(self.folder, target, symlinks=True)
        return Workshop(target)


@pytest.fixture(scope="session", autouse=True)
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def empty_workshop(tmp_path_factory) -> Workshop:
    folder = tmp_path_factory.mktemp("run")
    for split, count in (("labelled", 5), ("unlabelled", 18), ("validation", 4)):
        generate_scenes(folder / "scenes", count, 7, split, size=SIZE)
    (folder / "tiny.py").write_text(MODEL)
    (folder / "run.yaml").write_text(RUN)
    return Workshop(folder)


@pytest.fixture(scope="session")
def finished(empty_workshop, tmp_path_factory) -> Workshop:
    """The workshop with all stages made; tests that change it take a copy."""
    workshop = empty_workshop.copy(tmp_path_factory.mktemp("finished") / "run")
    run_all(workshop.run())
    return workshop


@pytest.fixture
def s4m(capsys):
    """Call the command line; gives exit code, standard output and standard error."""

    def call(*arguments: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return int(ended.value.code or 0), captured.out, captured.err

    return call
