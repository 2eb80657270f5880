"""Windowed bilinear sampling against torch's interpolate on the whole image."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from s4m_pipeline.refinement import resampling
from s4m_pipeline.refinement.resampling import (
    Window,
    bilinear,
    bilinear_above,
    intersection,
    pixel_positions,
    reach,
    union,
)


def _map(seed: int, shape: tuple[int, int]) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def _whole(source: np.ndarray, height: int, width: int) -> np.ndarray:
    size = (height, width)
    return F.interpolate(
        torch.from_numpy(source)[None, None], size, mode="bilinear", align_corners=False
    )[0, 0].numpy()


@pytest.mark.parametrize("size", [(64, 64), (37, 211), (200, 90), (16, 8)])
@pytest.mark.parametrize("window", [(0, 0, 1, 1), (0.2, 0.5, 0.3, 0.25), (0.9, 0.9, 0.1, 0.1)])
def test_window_equals_whole_resize(size: tuple[int, int], window: tuple[float, ...]) -> None:
    height, width = size
    source = _map(0, (16, 16))
    x, y = int(window[0] * width), int(window[1] * height)
    w, h = int(window[2] * width), int(window[3] * height)
    ys, xs = pixel_positions(y, h, 16 / height), pixel_positions(x, w, 16 / width)
    part = bilinear(source, ys, xs)
    assert part.flags.f_contiguous
    np.testing.assert_allclose(part, _whole(source, height, width)[y : y + h, x : x + w], atol=2e-6)


@pytest.mark.parametrize("size", [(64, 64), (37, 211), (201, 90), (9, 5)])
@pytest.mark.parametrize("cell", [(0, 0), (15, 15), (7, 3), (0, 15)])
def test_reach_holds_every_touched_pixel(size: tuple[int, int], cell: tuple[int, int]) -> None:
    height, width = size
    cells = np.zeros((16, 16), bool)
    cells[cell] = True
    touched = _whole(cells.astype(np.float32), height, width) > 0
    w = reach(cells, 16 / height, 16 / width, height, width)
    inside = np.zeros(size, bool)
    inside[w.y : w.y + w.height, w.x : w.x + w.width] = True
    assert not (touched & ~inside).any()
    assert w.height <= 2 * height / 16 + 5
    assert w.width <= 2 * width / 16 + 5


def test_reach_of_nothing_is_empty() -> None:
    assert reach(np.zeros((4, 4), bool), 0.25, 0.25, 16, 16).empty


def test_union_and_intersection() -> None:
    a, b, none = Window(0, 0, 4, 4), Window(2, 3, 5, 5), Window(0, 0, 0, 0)
    assert union(a, b) == Window(0, 0, 7, 8)
    assert union(a, none) == a
    assert union(none, b) == b
    assert intersection(a, b) == Window(2, 3, 2, 1)
    assert intersection(a, Window(4, 0, 2, 2)).empty


@pytest.mark.parametrize("pixels_at_once", [1, 100, 1000, 10**6])
@pytest.mark.parametrize("size", [(37, 211), (200, 90), (300, 1), (1, 300)])
def test_above_equals_comparing_the_values(
    pixels_at_once: int, size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resampling, "PIXELS_AT_ONCE", pixels_at_once)
    source = _map(1, (16, 16))
    ys, xs = pixel_positions(0, size[0], 16 / size[0]), pixel_positions(0, size[1], 16 / size[1])
    for level in (0, 0.3):
        above = bilinear_above(source, ys, xs, level)
        assert above.dtype == bool
        assert above.flags.f_contiguous
        assert np.array_equal(above, bilinear(source, ys, xs) > level)
        whole = _whole(source, *size)
        assert np.abs(whole[above != (whole > level)] - level).max(initial=0) < 2e-6


def test_above_on_no_pixel() -> None:
    none, some = np.zeros(0, np.float32), np.ones(3, np.float32)
    assert bilinear_above(_map(0, (4, 4)), none, some, 0).shape == (0, 3)
    assert bilinear_above(_map(0, (4, 4)), some, none, 0).shape == (3, 0)
