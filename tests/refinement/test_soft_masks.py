"""Soft masks: stored and read again, put on pixels, drawn from."""

import numpy as np
import pytest
from scipy.ndimage import map_coordinates

from s4m_pipeline.refinement.resampling import Window
from s4m_pipeline.refinement.soft_masks import (
    decode_soft_mask,
    draw_prompt_points,
    encode_soft_logits,
    encode_soft_mask,
    soft_mask_to_pixels,
)


def _prob(rows: int = 20, columns: int = 30) -> np.ndarray:
    y, x = np.mgrid[:rows, :columns]
    logits = 5 - 0.25 * ((y - 8) ** 2 + 0.5 * (x - 17) ** 2)
    return (1 / (1 + np.exp(-logits))).astype(np.float32)


def test_round_trip() -> None:
    prob = _prob()
    data, (x, y, w, h) = encode_soft_mask(prob)
    crop = decode_soft_mask(data, (x, y, w, h))
    assert crop.dtype == np.uint8
    assert crop.shape == (h, w)
    whole = np.zeros_like(prob)
    whole[y : y + h, x : x + w] = crop / 255
    assert np.abs(whole - prob).max() <= 0.5 / 255 + 1 / 255
    assert np.abs(whole - prob)[y : y + h, x : x + w].max() <= 0.5 / 255 + 1e-6
    above = np.argwhere(prob > 1 / 255)
    assert [y, x] == above.min(0).tolist()
    assert [y + h - 1, x + w - 1] == above.max(0).tolist()


def test_nothing_above_one_level() -> None:
    data, box = encode_soft_mask(np.full((6, 7), 0.5 / 255, np.float32))
    assert (data, box) == (b"", (0, 0, 0, 0))
    assert decode_soft_mask(data, box).shape == (0, 0)
    pixels = soft_mask_to_pixels(decode_soft_mask(data, box), box, 4, 24, 28)
    assert pixels.shape == (24, 28)
    assert not pixels.any()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("middle", [-40.0, -8.0, -5.5, 0.0, 40.0])
def test_logits_are_stored_as_their_sigmoid_over_the_whole_map(middle: float, dtype: type) -> None:
    """Around -5.5 values lie about 1/255, so that the crop hangs on single cells."""
    rng = np.random.default_rng(3)
    for _ in range(30):
        logits = (middle + 0.5 * rng.normal(size=(13, 17))).astype(dtype)
        whole = 1.0 / (1.0 + np.exp(-np.clip(logits, -30, 30)))
        assert encode_soft_logits(logits) == encode_soft_mask(whole)


def test_bytes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="does not fit 3 x 2 cells"):
        decode_soft_mask(b"12345", (0, 0, 2, 3))


@pytest.mark.parametrize(("stride", "size"), [(4.0, (80, 120)), (3.7, (73, 110)), (0.5, (10, 15))])
@pytest.mark.parametrize("centre", ["middle", "corner"])
def test_pixels_equal_sampling_the_whole_map(
    stride: float, size: tuple[int, int], centre: str
) -> None:
    prob = _prob() if centre == "middle" else np.roll(_prob(), (-8, 13), (0, 1))
    data, box = encode_soft_mask(prob)
    crop = decode_soft_mask(data, box)
    whole = np.zeros(prob.shape)
    x, y, w, h = box
    whole[y : y + h, x : x + w] = crop / 255
    ys, xs = np.mgrid[: size[0], : size[1]]
    at = [(ys + 0.5) / stride - 0.5, (xs + 0.5) / stride - 0.5]
    expected = map_coordinates(whole, at, order=1, mode="nearest")
    found = soft_mask_to_pixels(crop, box, stride, *size)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    part = soft_mask_to_pixels(crop, box, stride, *size, window=Window(3, 2, 9, 6))
    assert np.array_equal(part, found[2:8, 3:12])


def test_a_mask_at_the_far_edge_reaches_it() -> None:
    """A stride averaged over both axes must not make room for a cell that is not there."""
    crop = np.full((5, 5), 255, np.uint8)
    pixels = soft_mask_to_pixels(crop, (15, 15, 5, 5), 3.98, 80, 80)
    assert (pixels[62:, 62:] == 1).all()
    whole = soft_mask_to_pixels(crop, (14, 15, 5, 5), 3.98, 80, 80)
    assert whole[70, 79] < 0.5


def test_points_are_cell_centres_without_repeats() -> None:
    logits = np.random.default_rng(0).normal(size=(6, 5))
    points = draw_prompt_points(logits, 30, 4, 24, 20, np.random.default_rng(1))
    assert points.dtype == np.float32
    assert len({tuple(p) for p in points.tolist()}) == 30
    assert set(points[:, 0]) == {2, 6, 10, 14, 18}
    assert set(points[:, 1]) == {2, 6, 10, 14, 18, 22}


def test_points_are_clipped_and_deterministic() -> None:
    logits = np.zeros((3, 3))
    points = draw_prompt_points(logits, 9, 4, 9, 9, np.random.default_rng(5))
    again = draw_prompt_points(logits, 9, 4, 9, 9, np.random.default_rng(5))
    other = draw_prompt_points(logits, 9, 4, 9, 9, np.random.default_rng(6))
    assert points.max() == 8
    assert np.array_equal(points, again)
    assert not np.array_equal(points, other)


def test_fewer_cells_than_points() -> None:
    points = draw_prompt_points(np.zeros((1, 2)), 3, 4, 4, 8, np.random.default_rng(0))
    assert sorted(points.tolist()) == [[2, 2], [6, 2]]


def test_draws_follow_the_softmax() -> None:
    logits = np.log(np.array([[0.5, 0.3], [0.15, 0.05]]))
    weights = np.array([0.5, 0.3, 0.15, 0.05])
    rng = np.random.default_rng(7)
    draws = [draw_prompt_points(logits, 2, 1, 2, 2, rng) for _ in range(6000)]
    cells = np.floor(np.array(draws))
    index = (cells[..., 1] * 2 + cells[..., 0]).astype(int)
    first = np.bincount(index[:, 0], minlength=4) / len(index)
    np.testing.assert_allclose(first, weights, atol=0.025)
    # Second draw, without replacement: sum over firsts of w_i * w_j / (1 - w_i).
    pairs = weights[:, None] * weights[None] / (1 - weights[:, None])
    np.fill_diagonal(pairs, 0)
    second = np.bincount(index[:, 1], minlength=4) / len(index)
    np.testing.assert_allclose(second, pairs.sum(0), atol=0.025)


@pytest.mark.parametrize("kind", ["flat", "blob", "steep", "with ties", "one cell", "half closed"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_draws_equal_noise_on_every_cell(kind: str, dtype: type) -> None:
    """The same points as from numpy's own Gumbel noise on all cells, and the same left to draw."""
    rows, columns = np.mgrid[:40, :50]
    blob = 9 - np.hypot(rows - 14, columns - 30)
    logits = {
        "flat": np.zeros((40, 50)),
        "blob": blob,
        "steep": 30 * blob,
        "with ties": np.round(blob / 4),
        "one cell": np.where(blob == blob.max(), 500.0, -500.0),
        "half closed": np.where(rows < 20, blob, -np.inf),
    }[kind].astype(dtype)
    for seed in range(20):
        for count in (0, 1, 3, 11):
            ours, theirs = np.random.default_rng(seed), np.random.default_rng(seed)
            found = draw_prompt_points(logits, count, 1, 40, 50, ours)
            noisy = logits.ravel().astype(np.float64) + theirs.gumbel(size=logits.size)
            y, x = np.divmod(np.argsort(-noisy)[:count], 50)
            expected = np.minimum(np.stack([x, y], 1) + 0.5, [49, 39])
            assert np.array_equal(found, expected)
            assert ours.random() == theirs.random()


def test_drawing_from_logits_that_are_no_numbers_comes_to_an_end() -> None:
    logits = np.full((5, 5), np.nan, np.float32)
    points = draw_prompt_points(logits, 3, 4, 20, 20, np.random.default_rng(0))
    assert points.shape == (3, 2)
