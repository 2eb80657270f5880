"""Masks drawn over images."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

from s4m_pipeline.errors import UsageError
from s4m_pipeline.review.drawing import default_scale, draw_masks, fit_scale, resize
from s4m_pipeline.review.palette import PALETTE, class_colours, colour_of


def encode(mask: np.ndarray) -> bytes:
    return coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))["counts"]


def noise(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(3).integers(0, 256, (height, width, 3), dtype=np.uint8)


def disc(height: int, width: int, x: float, y: float, radius: float) -> np.ndarray:
    rows, columns = np.mgrid[:height, :width]
    return (rows - y) ** 2 + (columns - x) ** 2 <= radius**2


def near(mask: np.ndarray, distance: int) -> np.ndarray:
    """Pixels within a square distance of a mask, counted by a plain loop over shifts."""
    rows, columns = np.nonzero(mask)
    found = np.zeros_like(mask)
    for dy in range(-distance, distance + 1):
        for dx in range(-distance, distance + 1):
            y = np.clip(rows + dy, 0, mask.shape[0] - 1)
            x = np.clip(columns + dx, 0, mask.shape[1] - 1)
            found[y, x] = True
    return found


@pytest.mark.parametrize("scale", [1, 3])
def test_only_masks_and_their_rims_change(scale: int) -> None:
    image = noise(90, 120)
    masks = [disc(90, 120, 40, 30, 17), disc(90, 120, 118, 88, 9)]
    picture = draw_masks(image, [encode(m) for m in masks], ["", ""], scale=scale)
    before = np.asarray(resize(image, scale)).astype(int)
    changed = (np.asarray(picture).astype(int) != before).any(2)
    covered = np.kron(masks[0] | masks[1], np.ones((scale, scale), bool))
    assert picture.size == (120 * scale, 90 * scale)
    assert not changed[~near(covered, 2 + scale)].any()
    assert changed[covered].mean() > 0.95


def test_without_masks_the_image_stays_as_it_is() -> None:
    image = noise(20, 30)
    assert (np.asarray(draw_masks(image, [], [], scale=1)) == image).all()


def test_an_empty_mask_draws_nothing() -> None:
    image = noise(20, 30)
    picture = draw_masks(image, [encode(np.zeros((20, 30), bool))], ["cat"], [0.5], scale=1)
    assert (np.asarray(picture) == image).all()


def test_contour_has_the_class_colour_and_the_inside_is_a_blend() -> None:
    image = np.full((100, 100, 3), 200, dtype=np.uint8)
    mask = np.zeros((100, 100), bool)
    mask[30:70, 30:70] = True
    pixels = np.asarray(
        draw_masks(image, [encode(mask)], [""], scale=1, colours={"": (10, 20, 90)})
    )
    assert pixels[50, 30].tolist() == [10, 20, 90]
    expected = 200 + 0.4 * (np.array([10, 20, 90]) - 200)
    assert np.abs(pixels[50, 50] - expected).max() <= 1
    assert pixels[50, 29].min() > 200  # the white rim
    assert pixels[50, 26].tolist() == [200, 200, 200]


def test_small_masks_stay_on_top_of_large_ones() -> None:
    image = np.zeros((60, 60, 3), dtype=np.uint8)
    large, small = disc(60, 60, 30, 30, 25), disc(60, 60, 30, 30, 1)
    colours = {"a": (0, 0, 255), "b": (255, 0, 0)}
    pictures = [
        draw_masks(image, [encode(m) for m in masks], labels, scale=1, colours=colours)
        for masks, labels in (((large, small), ["a", "b"]), ((small, large), ["b", "a"]))
    ]
    for picture in pictures:
        red, _, blue = np.asarray(picture)[30, 30]
        assert red > blue


def test_a_label_is_written_near_its_mask() -> None:
    image = np.full((128, 128, 3), 128, dtype=np.uint8)
    mask = disc(128, 128, 60, 60, 12)
    plain = np.asarray(draw_masks(image, [encode(mask)], [""], colours={"": PALETTE[0]}))
    named = draw_masks(image, [encode(mask)], ["cat"], [0.93], colours={"cat": PALETTE[0]})
    assert named.size == (384, 384)
    rows, columns = np.nonzero((np.asarray(named) != plain).any(2))
    assert 48 * 3 - 40 <= rows.min() <= rows.max() <= 72 * 3 + 40
    assert 48 * 3 <= columns.min() <= columns.max() <= 48 * 3 + 160
    assert np.asarray(named)[rows, columns].max() == 255


def test_labels_at_the_edge_are_whole() -> None:
    image = np.full((64, 64, 3), 128, dtype=np.uint8)

    def white_pixels(*places: tuple[int, int]) -> int:
        rles = [encode(disc(64, 64, x, y, 5)) for x, y in places]
        picture = np.asarray(draw_masks(image, rles, ["elephant", "tiger"][: len(places)]))
        return int((picture == 255).all(2).sum())

    assert white_pixels((63, 0), (63, 63)) == white_pixels((10, 15), (10, 45)) > 50


def test_a_mask_keeps_its_area_when_enlarged() -> None:
    image = np.zeros((100, 100, 3), dtype=np.uint8)
    mask = disc(100, 100, 50, 50, 20)
    colours = {"": (0, 255, 0)}
    pixels = np.asarray(draw_masks(image, [encode(mask)], [""], scale=3, colours=colours))
    green = (pixels[..., 1] > 60) & (pixels[..., 0] < 60)
    assert green.sum() == pytest.approx(9 * mask.sum(), rel=0.03)


def test_scales() -> None:
    assert default_scale(128, 128) == 3
    assert default_scale(426, 640) == 1
    assert fit_scale(1200, 1600, 640) == pytest.approx(0.4)
    picture = draw_masks(noise(200, 400), [], [], scale=0.5)
    assert picture.size == (200, 100)


def test_drawing_is_the_same_each_time() -> None:
    image, rle = noise(50, 50), encode(disc(50, 50, 25, 25, 10))
    first, second = (draw_masks(image, [rle], ["zebra"], [0.5]) for _ in range(2))
    assert first.tobytes() == second.tobytes()


def test_long_and_numeric_labels() -> None:
    image, rle = noise(50, 50), encode(disc(50, 50, 25, 25, 10))
    assert isinstance(draw_masks(image, [rle], ["x" * 200]), Image.Image)
    assert isinstance(draw_masks(image, [rle], [7]), Image.Image)


@pytest.mark.parametrize(
    ("image", "labels", "scale"),
    [
        (np.zeros((10, 10), np.uint8), ["a"], 1),
        (np.zeros((10, 10, 3), np.float32), ["a"], 1),
        (np.zeros((10, 10, 3), np.uint8), [], 1),
        (np.zeros((10, 10, 3), np.uint8), ["a"], 0),
        (np.zeros((12, 14, 3), np.uint8), ["a"], 1),
        (np.zeros((5, 5, 3), np.uint8), ["a"], 1),
    ],
)
def test_wrong_input_is_refused(image: np.ndarray, labels: list[str], scale: int) -> None:
    rle = encode(disc(10, 10, 5, 5, 3))
    with pytest.raises(UsageError):
        draw_masks(image, [rle], labels, scale=scale)


def test_class_colours_are_stable_and_distinct() -> None:
    names = ["cat", "dog", "bird"]
    colours = class_colours(names)
    assert len(set(colours.values())) == 3
    assert class_colours(names) == colours
    assert colour_of("cat") == colour_of("cat")
    assert colour_of(2) == PALETTE[2]
    assert len(set(PALETTE)) == len(PALETTE)
