"""Images brought to the scale that a network is tested at."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from s4m_pipeline.models.scaled_image import scale_image


def test_scaling_keeps_aspect_and_swaps_channels() -> None:
    image = np.zeros((30, 60, 3), np.uint8)
    image[..., 0] = 200  # red
    scaled = scale_image(image, (120, 120))
    assert scaled.tensor.shape == (3, 60, 120)
    assert scaled.size == (60, 120)
    assert scaled.original == (30, 60)
    assert scaled.padded == (64, 128)
    assert scaled.tensor[2].eq(200).all()
    assert scaled.tensor[:2].eq(0).all()


@pytest.mark.parametrize("shape", [(47, 61), (90, 33), (64, 64), (5, 200)])
@pytest.mark.parametrize("scale", [(64, 64), (150, 40), (33, 97)])
def test_values_are_those_of_opencv_on_the_bgr_image(
    shape: tuple[int, int], scale: tuple[int, int]
) -> None:
    image = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    factor = min(max(scale) / max(shape), min(scale) / min(shape))
    height, width = (int(side * factor + 0.5) for side in shape)
    bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    expected = cv2.resize(bgr, (width, height), interpolation=cv2.INTER_LINEAR)
    values = scale_image(image, scale).tensor.permute(1, 2, 0).numpy()
    np.testing.assert_array_equal(values, expected)
    flipped = scale_image(image[:, ::-1], scale).tensor  # not contiguous
    np.testing.assert_array_equal(flipped, scale_image(image[:, ::-1].copy(), scale).tensor)


@pytest.mark.parametrize("shape", [(1, 40), (3, 2000), (2000, 3), (1, 1)])
def test_a_thin_picture_keeps_a_pixel(shape: tuple[int, int]) -> None:
    """Its short side would be rounded to none, which OpenCV refuses."""
    scaled = scale_image(np.full((*shape, 3), 200, np.uint8), (16, 16))
    assert max(scaled.size) == 16
    assert min(scaled.size) >= 1
    assert (scaled.tensor == 200).all()
