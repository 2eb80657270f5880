"""The strong augmentation of unlabelled images: colours and blur, never geometry.

S4M's values are the defaults: colour jitter (0.4, 0.4, 0.4, 0.1) with probability 0.8, grey with
0.2, Gaussian blur (sigma 0.1 to 2) with 0.5. All take ``img`` uint8 (H, W, 3) in BGR and draw from
``numpy.random``, which the datasets seed for each item.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from mmcv.transforms.base import BaseTransform
from mmdet.registry import TRANSFORMS

GREY_WEIGHTS = np.array([0.114, 0.587, 0.299], np.float32)
"""Luma weights of blue, green and red."""
HUE_TURN = 180
"""A full turn of hue in OpenCV's 8-bit HSV."""


@TRANSFORMS.register_module()
class ColourJitter(BaseTransform):
    """Change brightness, contrast, saturation and hue, in random order.

    Args:
        brightness: Factor drawn from 1 - value to 1 + value.
        contrast: The same, about the image's mean grey.
        saturation: The same, about each pixel's grey.
        hue: Shift drawn from -value to value, in full turns.
        prob: Probability of changing the image at all.
    """

    def __init__(
        self,
        brightness: float = 0.4,
        contrast: float = 0.4,
        saturation: float = 0.4,
        hue: float = 0.1,
        prob: float = 0.8,
    ) -> None:
        self.ranges = {"brightness": brightness, "contrast": contrast, "saturation": saturation}
        self.hue, self.prob = hue, prob

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Change ``img``."""
        if np.random.rand() >= self.prob:
            return results
        factors = {
            name: np.random.uniform(max(0.0, 1 - value), 1 + value)
            for name, value in self.ranges.items()
        }
        shift = np.random.uniform(-self.hue, self.hue)
        image = results["img"]
        for step in np.random.permutation([*factors, "hue"]):
            if step == "hue":
                image = shift_hue(image, shift)
            else:
                image = _blend(image, _anchor(image, step), factors[step])
        results["img"] = image
        return results


@TRANSFORMS.register_module()
class RandomGrey(BaseTransform):
    """Turn the image grey, in three equal channels.

    Args:
        prob: Probability.
    """

    def __init__(self, prob: float = 0.2) -> None:
        self.prob = prob

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Change ``img``."""
        if np.random.rand() < self.prob:
            grey = (results["img"].astype(np.float32) @ GREY_WEIGHTS).round().astype(np.uint8)
            results["img"] = np.repeat(grey[..., None], 3, axis=2)
        return results


@TRANSFORMS.register_module()
class GaussianBlur(BaseTransform):
    """Blur the image.

    Args:
        sigma: Least and greatest standard deviation in pixels.
        prob: Probability.
    """

    def __init__(self, sigma: tuple[float, float] = (0.1, 2.0), prob: float = 0.5) -> None:
        self.sigma, self.prob = sigma, prob

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Change ``img``."""
        if np.random.rand() < self.prob:
            sigma = np.random.uniform(self.sigma[0], self.sigma[1])
            results["img"] = cv2.GaussianBlur(results["img"], (0, 0), sigmaX=sigma)
        return results


def shift_hue(image: np.ndarray, turns: float) -> np.ndarray:
    """Turn the hue of a BGR uint8 image by a share of a full turn."""
    hsv = cv2.cvtColor(image, cv2.COLOR_BGR2HSV)
    hue = (hsv[..., 0].astype(np.int16) + round(turns * HUE_TURN)) % HUE_TURN
    hsv[..., 0] = hue.astype(np.uint8)
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2BGR)


def _anchor(image: np.ndarray, step: str) -> np.ndarray | float:
    """What a factor moves the pixels away from: black, the mean grey, or each pixel's grey."""
    if step == "brightness":
        return 0.0
    grey = image.astype(np.float32) @ GREY_WEIGHTS
    return float(grey.mean()) if step == "contrast" else grey[..., None]


def _blend(image: np.ndarray, anchor: np.ndarray | float, factor: float) -> np.ndarray:
    mixed = image.astype(np.float32) * np.float32(factor) + anchor * np.float32(1 - factor)
    return np.asarray(mixed.round().clip(0, 255), np.uint8)
