"""The colours of labelled images, changed as the SSD detector does.

As detectron2's ``ColorAugSSDTransform`` has it: on ``img`` uint8 (H, W, 3) in BGR, each step ends
in whole values from 0 to 255, and hue turns in OpenCV's 180 steps. MMDetection's
``PhotoMetricDistortion`` has the same ranges, but it calculates in floats that nothing bounds,
takes the range of hue for degrees (half of it), and swaps channels. Draws come from
``numpy.random``, which the datasets seed for each item.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from mmcv.transforms.base import BaseTransform
from mmdet.registry import TRANSFORMS

from s4m_pipeline.training_data.strong_augmentation import HUE_TURN


@TRANSFORMS.register_module()
class SsdColours(BaseTransform):
    """Change brightness, contrast, saturation and hue, each with a probability of one half.

    Contrast comes before saturation and hue, or after them, with equal probability.

    Args:
        brightness: What is added is drawn from -value to value.
        contrast: Least and greatest factor of all values.
        saturation: Least and greatest factor of the saturation.
        hue: Steps that the hue is turned by, from -value to value; 180 are a full turn.
    """

    def __init__(
        self,
        brightness: float = 32,
        contrast: tuple[float, float] = (0.5, 1.5),
        saturation: tuple[float, float] = (0.5, 1.5),
        hue: int = 18,
    ) -> None:
        self.brightness, self.contrast = brightness, contrast
        self.saturation, self.hue = saturation, hue

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Change ``img``."""
        image = results["img"]
        if _coin():
            image = _bounded(image, added=np.random.uniform(-self.brightness, self.brightness))
        first = _coin()
        if first:
            image = self._contrast(image)
        image = self._saturation_and_hue(image)
        results["img"] = image if first else self._contrast(image)
        return results

    def _contrast(self, image: np.ndarray) -> np.ndarray:
        return _bounded(image, np.random.uniform(*self.contrast)) if _coin() else image

    def _saturation_and_hue(self, image: np.ndarray) -> np.ndarray:
        if _coin():
            hsv = cv2.cvtColor(image, cv2.COLOR_BGR2HSV)
            hsv[..., 1] = _bounded(hsv[..., 1], np.random.uniform(*self.saturation))
            image = cv2.cvtColor(hsv, cv2.COLOR_HSV2BGR)
        if _coin():
            hsv = cv2.cvtColor(image, cv2.COLOR_BGR2HSV)
            steps = np.random.randint(-self.hue, self.hue + 1)
            hsv[..., 0] = (hsv[..., 0].astype(np.int16) + steps) % HUE_TURN
            image = cv2.cvtColor(hsv, cv2.COLOR_HSV2BGR)
        return image


def _coin() -> bool:
    return bool(np.random.randint(2))


def _bounded(values: np.ndarray, factor: float = 1.0, added: float = 0.0) -> np.ndarray:
    """Values times a factor plus something, cut to 0 to 255 and to whole numbers."""
    changed = values.astype(np.float32) * np.float32(factor) + np.float32(added)
    return np.asarray(changed.clip(0, 255), np.uint8)
