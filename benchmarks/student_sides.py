"""The two sides of `student_step.py`: a student in training, and what labels its batches online."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from online_labels import segmenter_masks, teacher_queries
from sam2.sam2_image_predictor import SAM2ImagePredictor
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

from s4m_pipeline.models.ema import WarmUpAverage
from s4m_pipeline.models.model_config import read_model_config
from s4m_pipeline.models.openmmlab import device_in_use
from s4m_pipeline.models.runner import build_runner
from s4m_pipeline.models.training_spec import TrainingSpec

INSTANCES = 20
"""Queries that are taken of each image."""


class Step(NamedTuple):
    """A training step: its losses, and the unlabelled images' classes and masks."""

    losses: dict[str, float]
    labels: list[tuple[np.ndarray, np.ndarray]]


class Student:
    """A student in training, with its average and its batches, through the package's runner.

    Args:
        spec: The training.
    """

    def __init__(self, spec: TrainingSpec) -> None:
        config = read_model_config(spec.model, len(spec.categories))
        spec.folder.mkdir(parents=True)
        with device_in_use(spec.device):
            runner = build_runner(spec, config, spec.folder)
            self.batches: Iterator[Any] = runner.train_loop.dataloader_iterator
        self.model = runner.model
        self.model.init_weights()
        self.model.train()
        self.optimizer = runner.build_optim_wrapper(runner.optim_wrapper)
        self.average = WarmUpAverage(self.model, spec.ema or 0.0).eval()
        self.steps = 0

    def step(self, batch: Any) -> Step:
        """Train on a batch and move the average."""
        labels = [
            (found.labels.cpu().numpy(), found.masks.masks.copy())
            for found in (sample.gt_instances for sample in unlabelled_of(batch)[1])
        ]
        torch.manual_seed(self.steps)
        self.steps += 1
        losses = self.model.train_step(batch, self.optimizer)
        self.average.update_parameters(self.model)
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        values = {name: torch.as_tensor(value).item() for name, value in losses.items()}
        return Step(values, labels)


class Labeller:
    """The online method's labels of a batch.

    Args:
        predictor: SAM 2's.
        cast: What `torch.autocast` is told around both networks.
    """

    def __init__(self, predictor: SAM2ImagePredictor, cast: dict[str, Any]) -> None:
        self.predictor, self.count, self._cast = predictor, INSTANCES, cast
        self.gflop: dict[str, float] = {}

    def label(self, student: Student, batch: Any) -> None:
        """Give a batch's unlabelled images labels, in place; count the first call's operations."""
        images, samples = unlabelled_of(batch)
        teacher = student.average.module

        def prompt() -> None:
            for image, sample, found in zip(images, samples, queries, strict=True):
                sample.gt_instances = segmenter_masks(
                    self.predictor, image, found, int(sample.img_id)
                )

        with torch.autocast(**self._cast):
            queries = self._counted(
                "teacher", lambda: teacher_queries(teacher, samples, images, self.count)
            )
            self._counted("SAM 2", prompt)

    def _counted(self, part: str, work: Callable[[], Any]) -> Any:
        if part in self.gflop:
            return work()
        found, self.gflop[part] = counted(work)
        return found


def unlabelled_of(batch: Any) -> tuple[list[Any], list[Any]]:
    """A batch's unlabelled images, uint8 (3, H, W), and their data samples."""
    pairs = zip(batch["inputs"], batch["data_samples"], strict=True)
    found = [pair for pair in pairs if pair[1].metainfo["branch"] == "unlabelled"]
    return [image for image, _ in found], [sample for _, sample in found]


def counted(work: Callable[[], Any]) -> tuple[Any, float]:
    """What some work gives, and its GFLOP."""

    def attention(query: Any, key: Any, value: Any, *_: Any, **__: Any) -> int:
        return int(sdpa_flop_count(query, key, value))

    fused = {torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: attention}
    with FlopCounterMode(display=False, custom_mapping=fused) as counter:
        found = work()
    return found, counter.get_total_flops() / 1e9
