"""Running a trained segmentor: predictions for pseudo-labels, and detections for evaluation."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import mmcv
import numpy as np
import torch
import torch.nn.functional as F
from mmdet.models.detectors import MaskFormer
from mmdet.structures import DetDataSample
from pycocotools import mask as coco_mask
from torch import Tensor

from s4m_pipeline.models.checkpoints import build_model, read_checkpoint
from s4m_pipeline.models.openmmlab import device_in_use, prepare

Found = TypeVar("Found")
STRIDE = 4
"""Pixels of the network's input a cell, for models whose masks have no stride of their own."""
LEAST_PROBABILITY = 1e-3


@dataclass(slots=True)
class InstancePredictions:
    """What a segmentor finds in an image, before any threshold.

    Attributes:
        class_probs: float32 (N, K); a query model's softmax without its "no object" column, another
            model's score at its label and 0 elsewhere.
        mask_logits: float32 (N, h, w), one value a cell over the image, without padding. Cell
            (r, c) covers the pixels [c * stride, (c + 1) * stride) x [r * stride, ...).
        stride: Pixels of the original image a cell.
    """

    class_probs: np.ndarray
    mask_logits: np.ndarray
    stride: float


@dataclass(slots=True)
class Detections:
    """Scored instances of an image, as the model itself reports them.

    Attributes:
        labels: int64 (N,), places in the categories.
        scores: float32 (N,).
        boxes: float32 (N, 4) x0, y0, x1, y1 in pixels of the original image.
        rles: N masks as COCO's compressed RLE, over the original image.
    """

    labels: np.ndarray
    scores: np.ndarray
    boxes: np.ndarray
    rles: list[bytes]


@dataclass(slots=True)
class _Scaled:
    """An image brought to the test scale."""

    tensor: Tensor  # uint8 (3, h, w), BGR
    size: tuple[int, int]  # h, w
    original: tuple[int, int]

    @property
    def padded(self) -> tuple[int, int]:
        """Height and width of the network's input."""
        return _up(self.size[0], 32), _up(self.size[1], 32)

    def sample(self) -> DetDataSample:
        """MMDetection's description of the image."""
        return DetDataSample(
            metainfo=dict(
                img_shape=self.size,
                ori_shape=self.original,
                scale_factor=(self.size[1] / self.original[1], self.size[0] / self.original[0]),
            )
        )


class Predictor:
    """A trained segmentor.

    What comes out for an image does not depend on the other images of a call: each is scaled and
    padded by itself, and only images whose padded sizes are equal share a batch. On a CPU, where a
    batch gains little, images go one by one, so that not even the last bits depend on it.

    Args:
        checkpoint: A ``checkpoint.pth`` of a training.
        device: "cpu", "cuda", "cuda:N" or "auto".
        averaged: Whether to use the averaged weights, where the training averaged.

    Raises:
        UsageError: The file is missing or not a checkpoint.
        ArtifactError: The checkpoint is damaged or of another format version.
    """

    categories: list[dict[str, Any]]

    def __init__(self, checkpoint: Path, device: str, averaged: bool = True) -> None:
        prepare()
        stored = read_checkpoint(checkpoint)
        with device_in_use(device) as kind:
            self.device = torch.device(kind if device == "auto" else device)
        self.categories = stored.categories
        self.iterations = stored.iterations
        self._scale = stored.test_scale
        self._model: Any = build_model(stored, checkpoint, averaged).to(self.device)

    def predict(
        self, images: Sequence[np.ndarray], min_score: float = 0.0
    ) -> list[InstancePredictions]:
        """Find instances in images.

        Args:
            images: uint8 (H, W, 3) RGB, of any sizes.
            min_score: Queries whose largest class probability is below this are left on the
                device; the others keep their order.
        """
        return self.begin(images, min_score)()

    def begin(
        self, images: Sequence[np.ndarray], min_score: float = 0.0
    ) -> Callable[[], list[InstancePredictions]]:
        """Give images to the network, as `predict` does, without waiting for a Mask2Former.

        Returns:
            A function that waits and returns what `predict` does.
        """

        def run(scaled: list[_Scaled]) -> Callable[[], list[InstancePredictions]]:
            if isinstance(self._model, MaskFormer):
                return self._begin_queries(scaled, min_score)
            found = self._predict_masks(scaled)
            return lambda: found

        return self._in_groups(images, run)

    def detect(self, images: Sequence[np.ndarray]) -> list[Detections]:
        """Find instances in images, with the model's own scoring and choice.

        Args:
            images: uint8 (H, W, 3) RGB, of any sizes.
        """

        def run(scaled: list[_Scaled]) -> Callable[[], list[Detections]]:
            found = [_detections(sample.pred_instances) for sample in self._run(scaled)]
            return lambda: found

        return self._in_groups(images, run)()

    def _in_groups(
        self,
        images: Sequence[np.ndarray],
        run: Callable[[list[_Scaled]], Callable[[], list[Found]]],
    ) -> Callable[[], list[Found]]:
        """Apply ``run`` to groups of images that may share a batch; results in images' order."""
        scaled = [scale_image(image, self._scale) for image in images]
        begun: list[tuple[list[int], Callable[[], list[Found]]]] = []
        for group in self._groups(scaled):
            with torch.inference_mode():
                begun.append((group, run([scaled[i] for i in group])))

        def finish() -> list[Found]:
            results: dict[int, Found] = {}
            for group, wait in begun:
                with torch.inference_mode():
                    results |= zip(group, wait(), strict=True)
            return [results[place] for place in range(len(scaled))]

        return finish

    def _groups(self, scaled: list[_Scaled]) -> Iterator[list[int]]:
        if self.device.type == "cpu":
            yield from ([place] for place in range(len(scaled)))
            return
        groups: dict[tuple[int, int], list[int]] = defaultdict(list)
        for place, image in enumerate(scaled):
            groups[image.padded].append(place)
        yield from groups.values()

    def _inputs(self, scaled: list[_Scaled]) -> tuple[Tensor, list[DetDataSample]]:
        """Normalised, padded input of a group."""
        data = {
            "inputs": [image.tensor.to(self.device) for image in scaled],
            "data_samples": [image.sample() for image in scaled],
        }
        prepared = self._model.data_preprocessor(data, False)
        return prepared["inputs"], prepared["data_samples"]

    def _begin_queries(
        self, scaled: list[_Scaled], min_score: float
    ) -> Callable[[], list[InstancePredictions]]:
        inputs, samples = self._inputs(scaled)
        features = self._model.extract_feat(inputs)
        all_classes, all_masks = self._model.panoptic_head(features, samples)
        classes, masks = all_classes[-1].float().softmax(-1)[..., :-1], all_masks[-1]
        stride = inputs.shape[-1] / masks.shape[-1]

        def finish() -> list[InstancePredictions]:
            each = zip(scaled, classes.cpu().numpy(), masks, strict=True)
            return [_kept(*one, stride, min_score) for one in each]

        return finish

    def _predict_masks(self, scaled: list[_Scaled]) -> list[InstancePredictions]:
        results = []
        for image, sample in zip(scaled, self._run(scaled), strict=True):
            found = sample.pred_instances
            probs = np.zeros((len(found), len(self.categories)), np.float32)
            labels = found.labels.cpu().numpy()
            probs[np.arange(len(labels)), labels] = found.scores.float().cpu().numpy()
            logits = mask_logits(found.masks, image.size).cpu().numpy()
            results.append(InstancePredictions(probs, logits, _stride(image, STRIDE)))
        return results

    def _run(self, scaled: list[_Scaled]) -> list[DetDataSample]:
        inputs, samples = self._inputs(scaled)
        return self._model.predict(inputs, samples, rescale=True)


def _kept(
    image: _Scaled, probs: np.ndarray, masks: Tensor, stride: float, min_score: float
) -> InstancePredictions:
    """Bring one image's queries from the device, those below the score left there."""
    height, width = (math.ceil(side / stride) for side in image.size)
    kept = np.flatnonzero(probs.max(axis=1) >= min_score)
    logits = masks[torch.from_numpy(kept).to(masks.device), :height, :width]
    return InstancePredictions(probs[kept], logits.float().cpu().numpy(), _stride(image, stride))


def scale_image(image: np.ndarray, scale: tuple[int, int]) -> _Scaled:
    """Scale an image as validation does, keeping its aspect.

    Args:
        image: uint8 (H, W, 3) RGB.
        scale: Long and short side (in either order) within which it is to fit.
    """
    resized = mmcv.imrescale(image[..., ::-1], tuple(scale), interpolation="bilinear")
    tensor = torch.from_numpy(np.ascontiguousarray(resized.transpose(2, 0, 1)))
    return _Scaled(tensor, resized.shape[:2], image.shape[:2])


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
    covered = F.interpolate(
        masks[:, None].float(), size=size, mode="bilinear", align_corners=False, antialias=True
    )
    missing = [cells[1] * STRIDE - size[1], cells[0] * STRIDE - size[0]]
    padded = F.pad(covered, (0, missing[0], 0, missing[1]), mode="replicate")
    share = F.avg_pool2d(padded, STRIDE)[:, 0]
    return torch.logit(share.clamp(LEAST_PROBABILITY, 1 - LEAST_PROBABILITY))


def _detections(found: Any) -> Detections:
    """Take a model's instances to the CPU and encode their masks."""
    masks = found.masks.cpu().numpy().astype(np.uint8)
    return Detections(
        labels=found.labels.cpu().numpy().astype(np.int64),
        scores=found.scores.float().cpu().numpy(),
        boxes=found.bboxes.float().cpu().numpy(),
        rles=[coco_mask.encode(np.asfortranarray(mask))["counts"] for mask in masks],
    )


def _stride(image: _Scaled, stride: float) -> float:
    """Pixels of the original image a cell; the mean of both directions, which rounding parts."""
    height, width = image.size
    return float(stride * math.sqrt(image.original[0] * image.original[1] / (height * width)))


def _up(value: int, unit: int) -> int:
    return (value + unit - 1) // unit * unit
