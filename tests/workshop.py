"""A whole run at tiny size, made once: real mmdet and sam2 code on generated scenes."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch.utils.data import _utils

from s4m_pipeline.cli import main
from s4m_pipeline.config_file import load_config
from s4m_pipeline.configs import MODELS
from s4m_pipeline.console.reporter import Reporter
from s4m_pipeline.data.scenes.scenes import generate_scenes
from s4m_pipeline.engine.registry import stage_named
from s4m_pipeline.engine.run import Run
from s4m_pipeline.labels.page import write_label_page
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
student:      {model: tiny.py, iterations: 4, labelled_batch: 1, unlabelled_batch: 1,
               checkpoint_interval: 2, workers: 0,
               structure_weight: 0.5, class_weight: 0.5, ema: 0.9}
"""

CALIBRATION = ("refine.min_score=0.02", "calibration.iterations=20")
"""Settings of the calibrated run."""


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


WorkshopOnce = Callable[[str, Workshop, Callable[[Workshop], object]], Workshop]


@pytest.fixture(autouse=True)
def _one_thread():
    """Results to the last bit, whatever the test before has set."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session", autouse=True)
def _short_waits():
    """Let a loader's workers see in half a second that nobody reads on; torch gives them five."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_utils, "MP_STATUS_CHECK_INTERVAL", 0.5)
        patch.setattr(_utils.worker, "MP_STATUS_CHECK_INTERVAL", 0.5)
        yield


@pytest.fixture(scope="session", autouse=True)
def _small_pages():
    """Show two images on the page of a student's labels; each takes a fifth of a second."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(write_label_page, "__defaults__", (2,))
        yield


@pytest.fixture(scope="session")
def empty_workshop(tmp_path_factory) -> Workshop:
    folder = tmp_path_factory.mktemp("run")
    for split, count in (("labelled", 5), ("unlabelled", 18), ("validation", 4)):
        generate_scenes(folder / "scenes", count, 7, split, size=SIZE)
    (folder / "tiny.py").write_text(MODEL)
    (folder / "run.yaml").write_text(RUN)
    return Workshop(folder)


@pytest.fixture(scope="session")
def workshop_once(made_once, tmp_path_factory) -> WorkshopOnce:
    """Change a copy of a workshop once for all workers; gives this worker's own copy of that."""

    def changed(name: str, workshop: Workshop, change: Callable[[Workshop], object]) -> Workshop:
        folder = made_once(name, lambda folder: change(workshop.copy(folder / "run")))
        return Workshop(folder / "run").copy(tmp_path_factory.mktemp(name) / "run")

    return changed


@pytest.fixture(scope="session")
def finished(empty_workshop, workshop_once) -> Workshop:
    """The workshop with all stages made; tests that change it take a copy."""
    return workshop_once("finished", empty_workshop, lambda own: run_all(own.run()))


@pytest.fixture(scope="session")
def calibrated(finished, workshop_once) -> Workshop:
    """The finished workshop with its calibration, as `CALIBRATION` sets it."""

    def calibrate(own: Workshop) -> None:
        run_all(own.run(*CALIBRATION), [stage_named("cross-fit"), stage_named("calibrate")])

    return workshop_once("calibrated", finished, calibrate)


@pytest.fixture
def s4m(capsys):
    """Call the command line; gives exit code, standard output and standard error."""

    def call(*arguments: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return int(ended.value.code or 0), captured.out, captured.err

    return call
