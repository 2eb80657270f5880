"""Channels as planes, against NumPy's transposition."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from s4m_pipeline.training_data.planes import planes


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
@pytest.mark.parametrize("shape", [(5, 7, 3), (1, 1, 3), (64, 33, 3), (6, 4, 1), (6, 4, 4)])
def test_planes_are_the_transposed_image(shape: tuple[int, int, int], dtype: Any) -> None:
    image = (np.random.default_rng(0).random(shape) * 255).astype(dtype)
    views = [image, image[::-1], image[:, ::-1], np.asfortranarray(image), image[..., ::-1]]
    for view in views:
        result = planes(view)
        assert result.dtype == dtype
        assert result.flags.c_contiguous
        assert np.array_equal(result, view.transpose(2, 0, 1))
        assert np.array_equal(planes(view, backwards=True), view.transpose(2, 0, 1)[::-1])
