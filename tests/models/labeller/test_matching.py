"""Sightings of several views, matched and averaged, against loops that spell it out."""

from __future__ import annotations

import numpy as np
import pytest

from s4m_pipeline.models.labeller.matching import MIN_IOU, matched
from s4m_pipeline.models.labeller.merging import merged
from s4m_pipeline.models.labeller.sightings import Lattice, Sighting
from s4m_pipeline.refinement.resampling import Window

SHAPE = (7, 9)
LATTICE = Lattice(SHAPE, (7.0, 9.0), 4.0)


def sighting(view: int, probs: tuple[float, ...], mask: np.ndarray) -> Sighting:
    """One whose mask is given over all cells."""
    window = Window(0, 0, SHAPE[1], SHAPE[0])
    return Sighting(view, np.array(probs, np.float32), window, mask.astype(np.float32))


def block(x: int, y: int, width: int, height: int, value: float = 1.0) -> np.ndarray:
    mask = np.zeros(SHAPE)
    mask[y : y + height, x : x + width] = value
    return mask


def whole(one: Sighting) -> np.ndarray:
    mask = np.zeros(SHAPE)
    mask[one.cells.cells] = one.mask
    return mask


def iou(a: np.ndarray, b: np.ndarray) -> float:
    a, b = a > 0.5, b > 0.5
    return (a & b).sum() / (a | b).sum() if (a | b).any() else 0.0


def naive(sightings: list[Sighting]) -> set[tuple[int, ...]]:
    """The rule, cell by cell and one sighting after the other."""
    groups: list[list[int]] = []
    for n in sorted(range(len(sightings)), key=lambda n: (-sightings[n].score, n)):
        own = sightings[n]
        found, best = None, MIN_IOU
        for group in groups:
            first = sightings[group[0]]
            taken = any(sightings[m].view == own.view for m in group)
            overlap = iou(whole(own), whole(first))
            if first.label == own.label and not taken and overlap > best:
                found, best = group, overlap
        if found is None:
            groups.append([n])
        else:
            found.append(n)
    return {tuple(group) for group in groups}


def random_sightings(seed: int) -> list[Sighting]:
    """Views that see about the same few blocks, some of them twice or not at all."""
    draw = np.random.default_rng(seed)
    truth = [(draw.integers(0, 5), draw.integers(0, 4), draw.integers(2, 5)) for _ in range(4)]
    found = []
    for view in range(draw.integers(1, 5)):
        for x, y, side in [truth[n] for n in draw.integers(0, 4, draw.integers(0, 7))]:
            x, y = max(0, x + draw.integers(-1, 2)), max(0, y + draw.integers(-1, 2))
            probs = tuple(draw.random(3) / 2)
            mask = block(x, y, side, side) * draw.random(SHAPE)
            rows, columns = slice(y, min(7, y + side)), slice(x, min(9, x + side))
            cells = Window(x, y, min(9, x + side) - x, min(7, y + side) - y)
            crop = (mask**0.3)[rows, columns].astype(np.float32)
            found.append(Sighting(view, np.array(probs, np.float32), cells, crop))
    return found


@pytest.mark.parametrize("seed", range(60))
def test_the_matches_are_those_of_the_loop(seed: int) -> None:
    sightings = random_sightings(seed)
    groups = matched(sightings, SHAPE)
    assert {tuple(group) for group in groups} == naive(sightings)
    assert sorted(n for group in groups for n in group) == list(range(len(sightings)))


@pytest.mark.parametrize("seed", range(20))
def test_the_order_of_the_views_changes_no_match(seed: int) -> None:
    sightings = random_sightings(seed)
    order = np.random.default_rng(seed).permutation(len(sightings))
    again = matched([sightings[n] for n in order], SHAPE)
    assert {tuple(int(order[n]) for n in group) for group in again} == naive(sightings)


def test_other_classes_other_places_and_the_same_view_do_not_match() -> None:
    a, same = sighting(0, (0.9, 0.1), block(1, 1, 4, 4)), block(1, 1, 4, 4)
    assert matched([a, sighting(1, (0.2, 0.1), same)], SHAPE) == [[0, 1]]
    assert matched([a, sighting(1, (0.1, 0.2), same)], SHAPE) == [[0], [1]]
    assert matched([a, sighting(0, (0.2, 0.1), same)], SHAPE) == [[0], [1]]
    # 8 of 16 and 8 cells in common: an IoU of one half is not above one half
    assert matched([a, sighting(1, (0.2, 0.1), block(1, 1, 2, 4))], SHAPE) == [[0], [1]]
    assert matched([a, sighting(1, (0.2, 0.1), block(1, 1, 3, 4))], SHAPE) == [[0, 1]]
    nothing = sighting(1, (0.3, 0.1), block(1, 1, 4, 4, value=0.4))
    assert matched([nothing, sighting(0, (0.2, 0.1), block(1, 1, 4, 4, value=0.4))], SHAPE) == [
        [0],
        [1],
    ]
    assert matched([], SHAPE) == []


def test_a_sighting_joins_the_instance_that_it_overlaps_most() -> None:
    left, right = block(0, 0, 4, 4), block(1, 0, 4, 4)
    found = [
        sighting(0, (0.9, 0), left),
        sighting(0, (0.8, 0), right),
        sighting(1, (0.7, 0), right),
    ]
    assert matched(found, SHAPE) == [[0], [1, 2]]


def test_distributions_are_averaged_over_all_views_and_masks_over_those_that_see() -> None:
    found = [
        sighting(0, (0.8, 0.1), block(1, 1, 4, 4, 0.9)),
        sighting(2, (0.4, 0.3), block(1, 1, 4, 3, 0.7)),
        sighting(1, (0.1, 0.6), block(6, 3, 2, 2, 0.6)),
    ]
    result = merged(found, 4, LATTICE, 2, 0.05)
    np.testing.assert_allclose(result.class_probs, [[0.3, 0.1], [0.025, 0.15]], rtol=1e-6)
    assert result.views_seen is not None
    assert result.views_seen.tolist() == [2, 1]
    assert result.views_seen.dtype == np.uint8
    assert result.stride == 4.0
    first = 1 / (1 + np.exp(-result.mask_logits[0].astype(float)))
    np.testing.assert_allclose(first[1:4, 1:5], 0.8, atol=1e-6)
    np.testing.assert_allclose(first[4, 1:5], 0.45, atol=1e-6)
    assert first[0].max() < 1e-5
    second = 1 / (1 + np.exp(-result.mask_logits[1].astype(float)))
    np.testing.assert_allclose(second[3:5, 6:8], 0.6, atol=1e-6)


def test_what_few_views_see_falls_below_the_least_score() -> None:
    found = [sighting(0, (0.2, 0.0), block(1, 1, 3, 3))]
    assert len(merged(found, 4, LATTICE, 2, 0.05).class_probs) == 1
    lost = merged(found, 5, LATTICE, 2, 0.05)
    assert lost.class_probs.shape == (0, 2)
    assert lost.mask_logits.shape == (0, *SHAPE)
    assert merged([], 2, LATTICE, 2, 0.0).class_probs.shape == (0, 2)
