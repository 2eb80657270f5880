"""Running a trained network: predictions for pseudo-labels, and detections for evaluation."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from mmdet.models.detectors import MaskFormer
from mmdet.structures import DetDataSample
from torch import Tensor

from s4m_pipeline.data.levels import Levels
from s4m_pipeline.devices.memory import attempt
from s4m_pipeline.devices.transfers import HostCopy, to_device, upload
from s4m_pipeline.models.checkpoints import build_model, read_checkpoint
from s4m_pipeline.models.detections import Detections
from s4m_pipeline.models.openmmlab import device_in_use, prepare
from s4m_pipeline.models.scaled_image import ScaledImage, scale_image

Result = TypeVar("Result")
STRIDE = 4
"""Pixels of the network's input a cell, for models whose masks have no stride of their own."""
LEAST_PROBABILITY = 1e-3
MASK_BYTES = 1 << 28
"""Memory of full masks as floats that are held at a time."""


@dataclass(slots=True)
class InstancePredictions:
    """The instances that a network predicts in an image, before any threshold.

    Attributes:
        class_probs: float32 (N, K); a query model's softmax without its "no object" column, another
            model's score at its label and 0 elsewhere.
        mask_logits: float32 (N, h, w), one value a cell over the image, without padding. Cell
            (r, c) covers the pixels [c * stride, (c + 1) * stride) x [r * stride, ...).
        stride: Pixels of the original image a cell.
        cell: Pixels of the network's picture a cell.
        views_seen: uint8 (N,), how many views of a picture saw each, where there were several.
    """

    class_probs: np.ndarray
    mask_logits: np.ndarray
    stride: float
    cell: float = STRIDE
    views_seen: np.ndarray | None = None


class Predictor:
    """A trained network.

    What comes out for an image does not depend on the other images of a call: each is scaled and
    padded by itself, and only images whose padded sizes are equal share a batch. On a CPU, where a
    batch gains little, images go one by one, so that not even the last bits depend on it. Where a
    device's memory runs out, batches are halved and stay so.

    A call waits for the device many times (Mask2Former's pixel decoder reads sizes back from it),
    so a caller that has other work runs it in a thread, one call at a time.

    Args:
        checkpoint: A ``checkpoint.pth`` of a training.
        device: "cpu", "cuda", "cuda:N" or "auto".
        averaged: Whether to use the averaged weights, where the training averaged.
        own_models: The model configs that the run's own file names; a checkpoint whose model is
            not of listed parts alone is built from the one that describes it.

    Attributes:
        categories: The classes, as COCO describes categories.
        iterations: Steps of the training.
        levels: Of the pictures of more than 8 bits that it learned from; None without such.
        device: Where the model is.
        warnings: Messages about how it runs, such as a smaller batch for lack of memory.

    Raises:
        UsageError: The file is missing or not a checkpoint.
        ArtifactError: The checkpoint is damaged, of another format version, or asks for what is not
            on the list of what a model may be built of.
    """

    categories: list[dict[str, Any]]

    def __init__(
        self,
        checkpoint: Path,
        device: str,
        averaged: bool = True,
        own_models: Sequence[str] = (),
    ) -> None:
        prepare()
        stored = read_checkpoint(checkpoint)
        with device_in_use(device) as kind:
            place = kind if device == "auto" else device
        self.categories = stored.categories
        self.iterations = stored.iterations
        self.levels = Levels.from_plain(stored.info.get("levels"))
        self.warnings: list[str] = []
        self._scale = stored.test_scale
        self._model: Any = build_model(stored, checkpoint, averaged, own_models).to(place)
        self.device: torch.device = next(self._model.parameters()).device
        self._most_images = 1 << 30

    def scaled(self, image: np.ndarray, factor: float = 1.0) -> ScaledImage:
        """Scale an image as `predict` and `detect` do first; any thread may do this ahead of them.

        Args:
            image: uint8 (H, W, 3) RGB.
            factor: Times the scale of testing.
        """
        return scale_image(image, self.scale_times(factor))

    def scale_times(self, factor: float) -> tuple[int, int]:
        """Width and height, in either order, within which images are scaled by `scaled`."""
        first, second = (max(1, round(side * factor)) for side in self._scale)
        return first, second

    def predict(
        self, images: Sequence[np.ndarray | ScaledImage], min_score: float = 0.0
    ) -> list[InstancePredictions]:
        """Find instances in images.

        Args:
            images: uint8 (H, W, 3) RGB, of any sizes, or what `scaled` made of them.
            min_score: Queries or instances whose largest class probability is below this are left
                out; the others keep their order.

        Raises:
            torch.OutOfMemoryError: One image alone does not fit the device.
        """
        if isinstance(self._model, MaskFormer):
            return self._in_batches(images, lambda batch: self._predict_queries(batch, min_score))
        return self._in_batches(images, lambda batch: self._predict_masks(batch, min_score))

    def detect(self, images: Sequence[np.ndarray | ScaledImage]) -> list[Detections]:
        """Find instances in images, scored and chosen as the model itself does.

        Args:
            images: uint8 (H, W, 3) RGB, of any sizes, or what `scaled` made of them.

        Raises:
            torch.OutOfMemoryError: One image alone does not fit the device.
        """

        def run(batch: list[ScaledImage]) -> list[Detections]:
            return [Detections.of(sample.pred_instances) for sample in self._run(batch)]

        return self._in_batches(images, run)

    def _in_batches(
        self,
        images: Sequence[np.ndarray | ScaledImage],
        run: Callable[[list[ScaledImage]], list[Result]],
    ) -> list[Result]:
        """Apply ``run`` to images that may share a batch; results in the images' order."""
        scaled = [one if isinstance(one, ScaledImage) else self.scaled(one) for one in images]
        results: dict[int, Result] = {}
        # both hold for the calling thread alone
        with self._as_current_device(), torch.inference_mode():
            for group in self._groups(scaled):
                while group:
                    batch = group[: self._most_images]
                    outputs = attempt(partial(run, [scaled[place] for place in batch]), len(batch))
                    if outputs is None:
                        self._most_images = len(batch) // 2
                        self.warnings[:] = [f"memory ran out: {self._most_images} images a batch"]
                        continue
                    results |= zip(batch, outputs, strict=True)
                    group = group[len(batch) :]
        return [results[place] for place in range(len(scaled))]

    def _as_current_device(self) -> AbstractContextManager[object]:
        return torch.cuda.device(self.device) if self.device.type == "cuda" else nullcontext()

    def _groups(self, scaled: list[ScaledImage]) -> Iterator[list[int]]:
        if self.device.type == "cpu":
            yield from ([place] for place in range(len(scaled)))
            return
        groups: dict[tuple[int, int], list[int]] = defaultdict(list)
        for place, image in enumerate(scaled):
            groups[image.padded].append(place)
        yield from groups.values()

    def _inputs(self, scaled: list[ScaledImage]) -> tuple[Tensor, list[DetDataSample]]:
        """Normalised, padded input of a batch."""
        data = {
            "inputs": [upload(image.tensor, self.device) for image in scaled],
            "data_samples": [image.sample() for image in scaled],
        }
        prepared = self._model.data_preprocessor(data, False)
        return prepared["inputs"], prepared["data_samples"]

    def _predict_queries(
        self, scaled: list[ScaledImage], min_score: float
    ) -> list[InstancePredictions]:
        """A Mask2Former's queries, those below the score left on the device."""
        inputs, samples = self._inputs(scaled)
        features = self._model.extract_feat(inputs)
        all_classes, all_masks = self._model.panoptic_head(features, samples)
        probs = all_classes[-1].float().softmax(-1)[..., :-1].cpu().numpy()
        stride = inputs.shape[-1] / all_masks[-1].shape[-1]
        kept = [np.flatnonzero(one.max(axis=1) >= min_score) for one in probs]
        logits = [
            HostCopy(_cells(masks, rows, image.size, stride))
            for masks, rows, image in zip(all_masks[-1], kept, scaled, strict=True)
        ]
        return [
            InstancePredictions(one[rows], copy.array(), _stride(image, stride), stride)
            for one, rows, copy, image in zip(probs, kept, logits, scaled, strict=True)
        ]

    def _predict_masks(
        self, scaled: list[ScaledImage], min_score: float
    ) -> list[InstancePredictions]:
        results = []
        for image, sample in zip(scaled, self._run(scaled), strict=True):
            instances = sample.pred_instances
            instances = instances[instances.scores >= min_score]
            probs = np.zeros((len(instances), len(self.categories)), np.float32)
            labels = instances.labels.cpu().numpy()
            probs[np.arange(len(labels)), labels] = instances.scores.float().cpu().numpy()
            logits = mask_logits(instances.masks, image.size).cpu().numpy()
            results.append(InstancePredictions(probs, logits, _stride(image, STRIDE)))
        return results

    def _run(self, scaled: list[ScaledImage]) -> list[DetDataSample]:
        inputs, samples = self._inputs(scaled)
        return self._model.predict(inputs, samples, rescale=True)


def _cells(masks: Tensor, rows: np.ndarray, size: tuple[int, int], stride: float) -> Tensor:
    """Some of an image's mask logits (Q, h, w), without padding: float32."""
    height, width = (math.ceil(side / stride) for side in size)
    return masks[to_device(torch.from_numpy(rows), masks.device), :height, :width].float()


def mask_logits(masks: Tensor, size: tuple[int, int]) -> Tensor:
    """Bring full masks to one logit a cell of :data:`STRIDE` input pixels.

    Args:
        masks: bool (N, H, W) over the original image.
        size: Height and width of the scaled image.

    Returns:
        float32 (N, ceil(h / stride), ceil(w / stride)).
    """
    cells = [math.ceil(side / STRIDE) for side in size]
    if not len(masks):
        return torch.zeros(0, *cells)
    together = max(1, MASK_BYTES // (4 * masks.shape[1] * masks.shape[2]))
    parts = [
        _covered(masks[start : start + together], size, cells)
        for start in range(0, len(masks), together)
    ]
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def _covered(masks: Tensor, size: tuple[int, int], cells: Sequence[int]) -> Tensor:
    """`mask_logits` of masks that are few enough to be held as floats."""
    covered = F.interpolate(
        masks[:, None].float(), size=size, mode="bilinear", align_corners=False, antialias=True
    )
    missing = [cells[1] * STRIDE - size[1], cells[0] * STRIDE - size[0]]
    padded = F.pad(covered, (0, missing[0], 0, missing[1]), mode="replicate")
    share = F.avg_pool2d(padded, STRIDE)[:, 0]
    return torch.logit(share.clamp(LEAST_PROBABILITY, 1 - LEAST_PROBABILITY))


def _stride(image: ScaledImage, stride: float) -> float:
    """Pixels of the original image a cell: the mean of both directions (rounding parts them)."""
    height, width = image.size
    return float(stride * math.sqrt(image.original[0] * image.original[1] / (height * width)))
