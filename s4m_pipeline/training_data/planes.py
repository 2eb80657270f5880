"""An image's channels as planes, the order that networks take."""

from __future__ import annotations

import cv2
import numpy as np


def planes(image: np.ndarray, backwards: bool = False) -> np.ndarray:
    """Bring an image's channels from the last axis to the first.

    OpenCV does it in rows of pixels; NumPy's and torch's copies go value by value.

    Args:
        image: (H, W, C).
        backwards: The last channel first.

    Returns:
        (C, H, W) of the same type, contiguous.
    """
    height, width, channels = image.shape
    channels_first = np.empty((channels, height, width), image.dtype)
    cv2.split(image, list(channels_first[::-1] if backwards else channels_first))
    return channels_first
