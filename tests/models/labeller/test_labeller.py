"""Several views and networks as one: flips undone, scales resampled, memory bounded."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from s4m_pipeline.config_views import View, read_views
from s4m_pipeline.models.labeller.labeller import Labeller
from s4m_pipeline.models.labeller.sightings import Lattice, sightings_of
from s4m_pipeline.models.predictor import InstancePredictions
from s4m_pipeline.models.scaled_image import ScaledImage
from tests.models.labeller.scripted import Scripted, by_colour, picture

FLIPPED = read_views(["image", "flip"])


def labeller(teachers: Sequence[Any], *views: str) -> Labeller:
    return Labeller(teachers, read_views(views or ["image"]))


def predicted(own: Labeller, image: np.ndarray, min_score: float = 0.05) -> InstancePredictions:
    (found,) = own.predict([own.scaled(image)], min_score)
    return found


def probabilities(found: InstancePredictions) -> np.ndarray:
    return 1 / (1 + np.exp(-found.mask_logits.astype(float)))


RED, GREEN = (0, 4, 8, 12, 12), (1, 20, 4, 8, 20)


@pytest.mark.parametrize("size", [(32, 32), (24, 32), (64, 48)])
def test_one_view_says_what_the_network_says(size: tuple[int, int]) -> None:
    image = picture(*size, RED, GREEN)
    teacher = Scripted(by_colour)
    direct = by_colour(teacher.scaled(image))
    found = predicted(labeller([teacher]), image)
    np.testing.assert_allclose(found.class_probs, direct.class_probs)
    np.testing.assert_allclose(probabilities(found), probabilities(direct), atol=2 / 255)
    assert (found.stride, found.mask_logits.shape) == (direct.stride, direct.mask_logits.shape)


def test_flips_are_undone_and_add_up() -> None:
    image = picture(32, 32, RED, GREEN)
    teacher = Scripted(by_colour)
    found = predicted(labeller([teacher], "image", "flip"), image)
    shown = [one.tensor.numpy() for one in teacher.seen]
    assert np.array_equal(shown[1], shown[0][..., ::-1])
    alone = by_colour(teacher.scaled(image))
    np.testing.assert_allclose(found.class_probs, alone.class_probs)
    # both views see the same, so that the mean is what one of them sees
    np.testing.assert_allclose(probabilities(found), probabilities(alone), atol=2 / 255)
    assert found.views_seen is not None
    assert found.views_seen.tolist() == [2, 2]


@pytest.mark.parametrize("size", [(32, 32), (30, 27), (22, 32), (101, 80)])
@pytest.mark.parametrize("views", [["image", "flip"], ["image", "flip", "1.35", "flip 1.35"]])
def test_the_labels_of_a_flipped_picture_are_the_flipped_labels(
    size: tuple[int, int], views: list[str]
) -> None:
    """Of a width that is no whole number of cells too: places are taken by their centres."""
    image = picture(*size, RED, GREEN)
    there = predicted(labeller([Scripted(by_colour)], *views), image)
    back = predicted(labeller([Scripted(by_colour)], *views), image[:, ::-1])
    np.testing.assert_allclose(there.class_probs, back.class_probs, atol=1e-7)
    assert there.views_seen is not None
    assert back.views_seen is not None
    assert there.views_seen.tolist() == back.views_seen.tolist()
    columns = there.mask_logits.shape[2]
    width = Scripted(by_colour).scaled(image).size[1]
    if width % 4 == 0:
        flipped = probabilities(back)[..., ::-1]
        np.testing.assert_allclose(probabilities(there), flipped, atol=1e-5)
        return
    # the mirror image of a cell's centre lies between two cells
    centres = width / 4 - (np.arange(columns) + 0.5) - 0.5
    inside = (centres >= 0) & (centres <= columns - 1)
    low = np.floor(centres[inside]).astype(int)
    share = centres[inside] - low
    other = probabilities(back)
    right = other[..., np.minimum(low + 1, columns - 1)]
    between = other[..., low] * (1 - share) + right * share
    # what was sampled once is compared with what was sampled twice
    np.testing.assert_allclose(probabilities(there)[..., inside].sum(), between.sum(), rtol=0.1)


@pytest.mark.parametrize("word", ["2", "0.5", "1.35", "flip 2"])
def test_scales_are_laid_on_the_cells_of_the_picture_as_it_is(word: str) -> None:
    """A tilted plane of logits, over the whole picture, is the same at every scale."""

    def plane(image: ScaledImage, call: int) -> InstancePredictions:
        height, width = (-(-side // 4) for side in image.size)
        x = (np.arange(width) + 0.5) * 4 / image.size[1]
        y = (np.arange(height) + 0.5) * 4 / image.size[0]
        flip = call == 1 and word.startswith("flip")
        logits = 2 * (1 - x if flip else x)[None] + y[:, None] - 1
        return InstancePredictions(np.array([[0.5, 0.1]], np.float32), logits[None], 8.0)

    teacher = Scripted(plane)
    found = predicted(labeller([teacher], "image", word), picture(64, 64))
    expected = 1 / (1 + np.exp(-plane(teacher.seen[0], 0).mask_logits))
    assert found.mask_logits.shape == (1, 8, 8)
    inner = (slice(None), slice(1, -1), slice(1, -1))  # a coarser view is constant at the edge
    np.testing.assert_allclose(probabilities(found)[inner], expected[inner], atol=2e-3)


def test_scores_and_masks_are_the_mean_by_hand() -> None:
    masks = np.full((2, 8, 8), -20.0)
    masks[0, 2:6, 1:5] = 2.0
    masks[1, 2:6, 1:4] = 1.0  # 12 of 16 cells

    def look(image: ScaledImage, call: int) -> InstancePredictions:
        if call == 2:
            return InstancePredictions(np.zeros((0, 2), np.float32), np.zeros((0, 8, 8)), 1.0)
        probs = np.array([[0.9, 0.05], [0.6, 0.2]], np.float32)[call : call + 1]
        return InstancePredictions(probs, masks[call : call + 1, :, :: -1 if call else 1], 1.0)

    found = predicted(labeller([Scripted(look)], "image", "flip", "2"), picture(32, 32))
    np.testing.assert_allclose(found.class_probs, [[0.5, 0.25 / 3]], rtol=1e-6)
    assert found.views_seen is not None
    assert found.views_seen.tolist() == [2]
    high, low = 1 / (1 + np.exp(-2.0)), 1 / (1 + np.exp(-1.0))
    seen = probabilities(found)[0]
    np.testing.assert_allclose(seen[2:6, 1:4], (high + low) / 2, rtol=1e-5)
    np.testing.assert_allclose(seen[2:6, 4], high / 2, rtol=1e-5)


def test_several_networks_of_several_scales_share_the_firsts_cells() -> None:
    image = picture(64, 64, (0, 8, 16, 24, 24))
    small, large = Scripted(by_colour, 32), Scripted(by_colour, 64)
    own = labeller([small, large], "image", "flip")
    assert own.passes == 4
    found = predicted(own, image, 0.5)
    assert found.mask_logits.shape == (1, 8, 8)
    assert found.views_seen is not None
    assert found.views_seen.tolist() == [4]
    assert [one.size for one in small.seen + large.seen] == [(32, 32)] * 2 + [(64, 64)] * 2


def test_a_batch_changes_nothing() -> None:
    images = [picture(32, 32, RED), picture(24, 32, RED, GREEN), picture(48, 31, GREEN)]
    own = labeller([Scripted(by_colour)], "image", "flip", "1.5")
    together = own.predict([own.scaled(image) for image in images], 0.05)
    for image, of_image in zip(images, together, strict=True):
        alone = predicted(own, image)
        assert np.array_equal(alone.class_probs, of_image.class_probs)
        assert np.array_equal(alone.mask_logits, of_image.mask_logits)
        assert np.array_equal(alone.views_seen, of_image.views_seen)


def test_what_waits_is_counted_and_what_a_network_warns_of_is_told() -> None:
    own = labeller([Scripted(by_colour)], "image", "flip", "2")
    waiting = own.scaled(picture(32, 32))
    assert waiting.nbytes == 3 * 32 * 32 + 3 * 64 * 64  # a flip is made when it is needed
    teacher = Scripted(by_colour)
    teacher.warnings.append("memory ran out: 1 images a batch")
    assert labeller([teacher, teacher]).warnings == ["memory ran out: 1 images a batch"]


def test_a_sighting_keeps_its_crop_and_not_the_map() -> None:
    logits = np.full((1, 64, 64), -20.0, np.float32)
    logits[0, 10:14, 20:24] = 3
    lattice = Lattice((64, 64), (64.0, 64.0), 4.0)
    one = InstancePredictions(np.array([[0.9, 0.1]], np.float32), logits, 4.0)
    (found,) = sightings_of(one, 0, False, lattice, lattice)
    assert found.mask.size <= 36
    assert found.mask.base is None or found.mask.base.size <= 36
    nowhere = InstancePredictions(one.class_probs, np.full((1, 64, 64), -20.0), 4.0)
    assert list(sightings_of(nowhere, 0, False, lattice, lattice)) == []


def test_a_view_reads_as_it_is_written() -> None:
    assert [str(View.of(word)) for word in ("image", 1, "flip", 1.35, "flip 1.35")] == [
        "image",
        "image",
        "flip",
        "1.35",
        "flip 1.35",
    ]
