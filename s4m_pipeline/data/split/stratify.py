"""Draw images so that every class keeps its share, and pictures that are alike stay together. No
torch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

CANDIDATES = 1024
"""Images considered for each place of a stratified draw, so that large sets are quick."""


def draw(
    labels: Sequence[Sequence[int]],
    count: int,
    generator: np.random.Generator,
    stratified: bool,
    together: Sequence[Sequence[int]] = (),
) -> list[int]:
    """Choose images.

    Args:
        labels: Each image's category ids, one for each instance.
        count: How many images to choose, at most as many as there are.
        generator: Where chance comes from.
        stratified: Keep each class's share of the instances; otherwise images are drawn evenly.
        together: Groups of places in ``labels`` that are chosen whole or not at all. For their
            sake fewer than ``count`` are chosen where a group would not fit, and more where even
            the smallest one does not.

    Returns:
        Places in ``labels``, in the order they were chosen.
    """
    table = _count_table(labels)
    chosen = _draw_units(table, np.ones(len(labels), np.int64), count, generator, stratified)
    if all(len(set(group) & set(chosen)) in (0, len(group)) for group in together):
        return chosen
    grouped = {place for group in together for place in group}
    alone = [(place,) for place in range(len(labels)) if place not in grouped]
    units = sorted([*alone, *(tuple(group) for group in together)])
    sizes = np.array([len(unit) for unit in units])
    sums = np.stack([table[list(unit)].sum(0) for unit in units])
    places = _draw_units(sums, sizes, max(count, int(sizes.min())), generator, stratified)
    return [place for unit in places for place in units[unit]]


def _draw_units(
    table: np.ndarray,
    sizes: np.ndarray,
    count: int,
    generator: np.random.Generator,
    stratified: bool,
) -> list[int]:
    """Choose rows of a table until they make ``count`` images, or no other one fits."""
    if stratified and count < sizes.sum():
        return _draw_stratified(table, sizes, count, generator)
    chosen, taken = [], 0
    for unit in generator.permutation(len(sizes)).tolist():
        if taken + sizes[unit] <= count:
            chosen.append(unit)
            taken += sizes[unit]
    return chosen


def _draw_stratified(
    table: np.ndarray, sizes: np.ndarray, count: int, generator: np.random.Generator
) -> list[int]:
    """Choose rows one by one, each time the one that keeps the classes nearest their share.

    After k of ``count`` images every class should have k / count of its part; images without
    instances count as a class of their own. A class's error is relative to its part, so that
    rare classes weigh as much as common ones.
    """
    part = table.sum(0) * (count / sizes.sum())
    weight = 1 / np.maximum(part, 1.0)
    open_places = generator.permutation(len(sizes))
    reached, taken, largest = np.zeros(table.shape[1]), 0, int(sizes.max())
    chosen: list[int] = []
    while taken < count:
        if largest > count - taken:  # what does not fit now never will
            open_places = open_places[sizes[open_places] <= count - taken]
        if not len(open_places):
            break
        candidates = open_places[:CANDIDATES]
        share = (taken + sizes[candidates]) / count
        error = (reached + table[candidates] - part * share[:, None]) * weight
        best = int(np.square(error).sum(1).argmin())
        chosen.append(int(candidates[best]))
        reached += table[chosen[-1]]
        taken += int(sizes[chosen[-1]])
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
