"""Repeat-factor sampling: images with rare classes are drawn more often. No torch."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Collection, Sequence

import numpy as np

from s4m_pipeline.artifacts.seeds import rng


def repeat_factors(classes: Sequence[Collection[int]], threshold: float) -> np.ndarray:
    """How often each image is drawn in a pass, on average.

    ``sqrt(threshold / f)`` for the image's rarest class, which is on a share ``f`` of the images;
    never less than once. Above a threshold of 1 all images that have an instance come more than
    once, and those without one come once.

    Args:
        classes: The classes of each image's instances.
        threshold: Shares below this are rare.

    Returns:
        float64 (N,).
    """
    held = [set(own) for own in classes]
    images = Counter(name for own in held for name in own)
    rarest = [min((images[name] for name in own), default=None) for own in held]
    shares = [np.inf if count is None else count / len(held) for count in rarest]
    return np.maximum(1.0, np.sqrt(threshold / np.array(shares)))


class RepeatedOrder:
    """An endless order over images, pass after pass, in which images come by their factors.

    What of a factor is no whole number is rounded up or down at random in each pass, so that it
    is met on average, as detectron2 does. Rounding and order follow from the seed and the number
    of the pass. With factors of 1 the order is that of `samplers.MixedSampler` without factors.

    Args:
        factors: How often each image comes in a pass; 1 at least.
        seed: Fixes the order.
        name: Tells orders of one seed apart.
    """

    def __init__(self, factors: np.ndarray, seed: int, name: str) -> None:
        self._whole = np.floor(factors).astype(np.int64)
        self._rest = factors - self._whole
        self._seed, self._name = seed, name
        self._ends: list[int] = []
        self._pass = -1
        self._images = np.empty(0, np.int64)

    def at(self, position: int) -> int:
        """The image at a position counted from 0."""
        while not self._ends or self._ends[-1] <= position:
            before = self._ends[-1] if self._ends else 0
            self._ends.append(before + int(self._repeats(len(self._ends)).sum()))
        number = bisect_right(self._ends, position)
        if number != self._pass:
            images = np.repeat(np.arange(len(self._whole)), self._repeats(number))
            order = rng(self._seed, "order", self._name, number).permutation(len(images))
            self._images, self._pass = images[order], number
        return int(self._images[position - (self._ends[number - 1] if number else 0)])

    def _repeats(self, number: int) -> np.ndarray:
        """How often each image comes in a pass: int64 (N,)."""
        drawn = rng(self._seed, "repeats", self._name, number).random(len(self._rest))
        return self._whole + (drawn < self._rest)
