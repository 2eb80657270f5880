"""Networks whose predictions are scripted, in place of trained ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch

from s4m_pipeline.models.predictor import InstancePredictions
from s4m_pipeline.models.scaled_image import ScaledImage, scale_image

CATEGORIES = [{"id": 3, "name": "disc"}, {"id": 1, "name": "box"}]
Look = Callable[[ScaledImage, int], InstancePredictions]


class Scripted:
    """A network that answers as a function says.

    Args:
        look: Gives the predictions on a scaled picture; told the number of the call, too.
        side: Pictures are brought to this many pixels on their longer side.
    """

    def __init__(self, look: Look, side: int = 32) -> None:
        self.categories = CATEGORIES
        self.device = torch.device("cpu")
        self.warnings: list[str] = []
        self.seen: list[ScaledImage] = []
        self._look, self._side = look, side

    def scale_times(self, factor: float) -> tuple[int, int]:
        return round(self._side * factor), round(self._side * factor)

    def scaled(self, image: np.ndarray, factor: float = 1.0) -> ScaledImage:
        return scale_image(image, self.scale_times(factor))

    def predict(self, images: Sequence[ScaledImage], min_score: float) -> list[InstancePredictions]:
        found = []
        for image in images:
            one = self._look(image, len(self.seen))
            self.seen.append(image)
            keep = one.class_probs.max(axis=1, initial=0) >= min_score
            found.append(
                InstancePredictions(one.class_probs[keep], one.mask_logits[keep], one.stride)
            )
        return found


def by_colour(image: ScaledImage, call: int = 0) -> InstancePredictions:
    """See a disc where the picture is red and a box where it is green, by cells of 4 x 4 pixels."""
    del call
    height, width = (-(-side // 4) for side in image.size)
    pixels = np.zeros((2, height * 4, width * 4), np.float32)
    bgr = image.tensor.numpy().astype(np.float32)
    pixels[:, : image.size[0], : image.size[1]] = bgr[[2, 1]]
    cells = pixels.reshape(2, height, 4, width, 4).mean(axis=(2, 4))
    stride = 4 * np.sqrt(np.prod(image.original) / np.prod(image.size))
    probs = np.array([[0.9, 0.05], [0.1, 0.8]], np.float32)
    return InstancePredictions(probs, (cells - 127.5) / 16, float(stride))


def picture(height: int, width: int, *rectangles: tuple[int, int, int, int, int]) -> np.ndarray:
    """A black picture with rectangles: channel, x, y, width, height."""
    image = np.zeros((height, width, 3), np.uint8)
    for channel, x, y, w, h in rectangles:
        image[y : y + h, x : x + w, channel] = 255
    return image
