"""Draw images so that every class keeps its share. No torch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

CANDIDATES = 1024
"""Images considered for each place of a stratified draw, so that large sets are quick."""


def draw(
    labels: Sequence[Sequence[int]], count: int, generator: np.random.Generator, stratified: bool
) -> list[int]:
    """Choose images.

    Args:
        labels: Each image's category ids, one for each instance.
        count: How many images to choose, at most as many as there are.
        generator: Where chance comes from.
        stratified: Keep each class's share of the instances; otherwise images are drawn evenly.

    Returns:
        Places in ``labels``, in the order they were chosen.
    """
    if not stratified or count >= len(labels):
        return [int(place) for place in generator.permutation(len(labels))[:count]]
    return _draw_stratified(labels, count, generator)


def _draw_stratified(
    labels: Sequence[Sequence[int]], count: int, generator: np.random.Generator
) -> list[int]:
    """Choose images one by one, each time the one that keeps the classes nearest their share.

    After k of ``count`` images every class should have k / count of its part; images without
    instances count as a class of their own. A class's error is relative to its part, so that
    rare classes weigh as much as common ones.
    """
    table = _count_table(labels)
    part = table.sum(0) * (count / len(labels))
    weight = 1 / np.maximum(part, 1.0)
    open_places = generator.permutation(len(labels))
    reached = np.zeros(table.shape[1])
    chosen: list[int] = []
    for step in range(1, count + 1):
        candidates = open_places[:CANDIDATES]
        error = (reached + table[candidates] - part * (step / count)) * weight
        best = int(np.square(error).sum(1).argmin())
        chosen.append(int(candidates[best]))
        reached += table[chosen[-1]]
        # the place is filled from the end, so that other images come into view
        open_places[best] = open_places[-1]
        open_places = open_places[:-1]
    return chosen


def _count_table(labels: Sequence[Sequence[int]]) -> np.ndarray:
    """Count instances: float array (images, classes + 1), the last column images without any."""
    column = {key: place for place, key in enumerate(sorted({c for row in labels for c in row}))}
    table = np.zeros((len(labels), len(column) + 1))
    for row, categories in enumerate(labels):
        for key in categories:
            table[row, column[key]] += 1
        if not categories:
            table[row, -1] = 1
    return table
