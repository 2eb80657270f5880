"""The matching rule against pixels."""

import numpy as np
import pytest
from pycocotools import mask as mask_api

from s4m_pipeline.data.image_set import Category, ImageRecord, ImageSet, Instance
from s4m_pipeline.metrics.label_quality import label_quality
from s4m_pipeline.metrics.matching import Label, match_labels, overlaps


def random_scene(seed, size=24, count=6):
    generator = np.random.default_rng(seed)

    def blob():
        y, x = generator.integers(0, size - 8, 2)
        mask = np.zeros((size, size), np.uint8)
        mask[y : y + generator.integers(3, 9), x : x + generator.integers(3, 9)] = 1
        return mask

    truth = [(int(generator.integers(1, 3)), blob(), bool(generator.random() < 0.2)) for _ in "abc"]
    labels = [
        (
            int(generator.integers(1, 3)),
            truth[int(generator.integers(3))][1] if generator.random() < 0.6 else blob(),
            float(generator.permutation(100)[0]) / 100,
        )
        for _ in range(count)
    ]
    return truth, labels


def encode(mask):
    return mask_api.encode(np.asfortranarray(mask))["counts"]


def flags_of(labels, truth, size):
    return match_labels(labels, truth, overlaps(labels, truth, size)).flags.tolist()


def brute_flags(truth, labels):
    """Greedy matching on pixel arrays."""
    free = [not crowd for _, _, crowd in truth]
    flags = [0] * len(labels)
    for n in sorted(range(len(labels)), key=lambda n: -labels[n][2]):
        key, mask, _ = labels[n]
        best, place = 0.5, -1
        for m, (other, true, crowd) in enumerate(truth):
            shared, either = int((mask & true).sum()), int((mask | true).sum())
            if free[m] and not crowd and other == key and shared / either > best:
                best, place = shared / either, m
        if place >= 0:
            free[place], flags[n] = False, 1
        elif any(
            crowd and other == key and (mask & true).sum() > 0.5 * mask.sum()
            for other, true, crowd in truth
        ):
            flags[n] = -1
    return flags


@pytest.mark.parametrize("seed", range(30))
def test_matching_agrees_with_pixels_and_with_label_quality(seed):
    truth, labels = random_scene(seed)
    instances = [Instance(k, encode(m), (0, 0, 1, 1), int(m.sum()), c) for k, m, c in truth]
    coded = [Label(k, encode(m), s) for k, m, s in labels]
    flags = flags_of(coded, instances, (24, 24))
    assert flags == brute_flags(truth, labels)
    image = ImageRecord(1, "a.png", None, 24, 24)
    known = ImageSet([Category(1, "a"), Category(2, "b")], [image], {1: instances})
    figures = label_quality(known, {1: coded})
    assert flags.count(1) == figures["matched"]
    assert flags.count(1) + flags.count(0) == figures["labels"]


def test_an_image_without_truth_has_only_false_predictions():
    assert flags_of([Label(1, encode(np.ones((4, 4), np.uint8)), 0.5)], [], (4, 4)) == [0]
    assert flags_of([], [], (4, 4)) == []
