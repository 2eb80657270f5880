"""Images at the scale that a network is tested at."""

from __future__ import annotations

from dataclasses import dataclass

import mmcv
import numpy as np
import torch
from mmdet.structures import DetDataSample
from torch import Tensor

from s4m_pipeline.training_data.planes import planes

UNIT = 32
"""Sides of the network's input are multiples of this."""


@dataclass(slots=True)
class ScaledImage:
    """An image brought to the test scale.

    Attributes:
        tensor: uint8 (3, h, w), BGR.
        size: Its h and w.
        original: Height and width of the image before.
    """

    tensor: Tensor
    size: tuple[int, int]
    original: tuple[int, int]

    @property
    def padded(self) -> tuple[int, int]:
        """Height and width of the network's input."""
        return _up(self.size[0]), _up(self.size[1])

    def sample(self) -> DetDataSample:
        """MMDetection's description of the image."""
        return DetDataSample(
            metainfo=dict(
                img_shape=self.size,
                ori_shape=self.original,
                scale_factor=(self.size[1] / self.original[1], self.size[0] / self.original[0]),
            )
        )


def scale_image(image: np.ndarray, scale: tuple[int, int]) -> ScaledImage:
    """Scale an image as validation does, keeping its aspect; a thin one keeps a pixel.

    Args:
        image: uint8 (H, W, 3) RGB.
        scale: Long and short side (in either order) within which it is to fit.
    """
    width, height = mmcv.rescale_size((image.shape[1], image.shape[0]), tuple(scale))
    size = max(1, width), max(1, height)
    resized = mmcv.imresize(image, size, interpolation="bilinear")
    tensor = torch.from_numpy(planes(resized, backwards=True))
    return ScaledImage(tensor, resized.shape[:2], image.shape[:2])


def _up(value: int) -> int:
    return (value + UNIT - 1) // UNIT * UNIT
