"""What refinement gains on labelled images: folds, gains, the choice. No torch.

A measurement is of a prediction, by a teacher that did not see the image, and of a policy that
refined it: the IoU of the mask with the true one, before and after.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from s4m_pipeline.artifacts.seeds import rng
from s4m_pipeline.object_sizes import SIZES, size_of

ENOUGH = 10
"""Instances that a class or size needs for a decision of its own."""
DRAWS = 1000
"""Bootstrap samples of an interval."""


@dataclass(frozen=True, slots=True)
class Measurements:
    """Measurements as columns, with an element for each instance and policy.

    Attributes:
        image_id: int64.
        category_id: int64, the prediction's class.
        area: int64, pixels of the teacher's mask (the true area is not known of pseudo-labels).
        policy: Names of policies.
        before: float64, IoU of the teacher's mask with the true one.
        after: float64, IoU of the final mask with the true one.
    """

    image_id: np.ndarray
    category_id: np.ndarray
    area: np.ndarray
    policy: np.ndarray
    before: np.ndarray
    after: np.ndarray

    def take(self, chosen: np.ndarray) -> Measurements:
        """The measurements that a bool array marks."""
        return Measurements(*(getattr(self, name)[chosen] for name in self.__slots__))


@dataclass(frozen=True, slots=True)
class Gain:
    """Mean IoU before and after, with the 95 % interval of the difference.

    Attributes:
        instances: How many were measured; the figures are None for 0.
        before: Mean IoU of the teacher's masks.
        after: Mean IoU of the final masks.
        low: Lower end of the interval of ``after - before``; None for a single image, which has no
            interval.
        high: Upper end of that interval.
    """

    instances: int
    before: float | None = None
    after: float | None = None
    low: float | None = None
    high: float | None = None

    @property
    def gain(self) -> float:
        """Mean gain; 0 where nothing was measurements."""
        return 0.0 if self.after is None or self.before is None else self.after - self.before


def assign_folds(
    classes: Sequence[Sequence[int]], folds: int, generator: np.random.Generator
) -> np.ndarray:
    """Share out images among folds so that each has about as many images, and of each class.

    Images are taken by their rarest class, the rarest of all first, in random order within a class.
    Each goes to the fold that has the fewest instances of that class, then the fewest images, among
    the folds that are not full.

    Args:
        classes: Category ids of each image's instances.
        folds: At most as many as images.
        generator: Draws the order.

    Returns:
        int64 (images,), the fold of each image.
    """
    totals: dict[int, int] = {}
    for of_image in classes:
        for key in of_image:
            totals[key] = totals.get(key, 0) + 1
    most = max(totals.values(), default=0)
    rarest = [min(keys, key=lambda key: (totals[key], key), default=-1) for keys in classes]
    order = generator.permutation(len(classes)).tolist()
    order.sort(key=lambda n: len(classes[n]) == 0 or totals[rarest[n]] / (1 + most))
    full = -(-len(classes) // folds)
    fold_of = np.full(len(classes), -1, np.int64)
    images = np.zeros(folds, np.int64)
    held: list[dict[int, int]] = [{} for _ in range(folds)]
    for place in order:
        key = rarest[place]
        open_folds = [n for n in range(folds) if images[n] < full]
        best = min(open_folds, key=lambda n: (held[n].get(key, 0), images[n]))
        fold_of[place] = best
        images[best] += 1
        for each in classes[place]:
            held[best][each] = held[best].get(each, 0) + 1
    return fold_of


def bootstrap_interval(
    values: np.ndarray, groups: np.ndarray, generator: np.random.Generator, draws: int = DRAWS
) -> tuple[float, float]:
    """The 95 % percentile interval of a mean, whole groups drawn with replacement.

    Args:
        values: float (N,), at least one.
        groups: (N,), the group of each value: its image.
        generator: Draws the groups.
        draws: Number of samples.
    """
    _, place = np.unique(groups, return_inverse=True)
    sums = np.bincount(place, weights=values)
    counts = np.bincount(place)
    drawn = generator.multinomial(len(sums), np.full(len(sums), 1 / len(sums)), size=draws)
    low, high = np.quantile(drawn @ sums / (drawn @ counts), [0.025, 0.975])
    return float(low), float(high)


def gain_of(measurements: Measurements, seed: int) -> Gain:
    """Mean IoU before and after of some measurements of one policy; the seed is the interval's."""
    count = len(measurements.before)
    if not count:
        return Gain(0)
    before, after = float(measurements.before.mean()), float(measurements.after.mean())
    if len(np.unique(measurements.image_id)) < 2:
        return Gain(count, before, after)
    difference = measurements.after - measurements.before
    generator = rng(seed, "calibrate", "interval")
    low, high = bootstrap_interval(difference, measurements.image_id, generator)
    return Gain(count, before, after, low, high)


def gains_by_size(measurements: Measurements, seed: int) -> dict[str, Gain]:
    """Gains by size of some measurements of one policy; the seed is the intervals'."""
    sizes = np.array([size_of(area) for area in measurements.area.tolist()], dtype=object)
    return {size: gain_of(measurements.take(sizes == size), seed) for size in SIZES}


def gains_by(
    measurements: Measurements, categories: Sequence[int], seed: int
) -> dict[str, dict[str, dict[Any, Gain]]]:
    """Gains of each policy over all instances, by size and by class.

    Args:
        measurements: The measurements.
        categories: All category ids.
        seed: Seed of the intervals: gains over the same images draw the same samples.

    Returns:
        By policy, in the order of the measurements:
        ``{"all": {"all": gain}, "size": {...}, "class": {...}}``.
    """
    gains: dict[str, dict[str, dict[Any, Gain]]] = {}
    for policy in dict.fromkeys(measurements.policy.tolist()):
        own = measurements.take(measurements.policy == policy)
        gains[policy] = {
            "all": {"all": gain_of(own, seed)},
            "size": gains_by_size(own, seed),
            "class": {key: gain_of(own.take(own.category_id == key), seed) for key in categories},
        }
    return gains


def best_policy(gains: Mapping[str, Mapping[str, Mapping[Any, Gain]]]) -> str | None:
    """The policy with the surest gain: with the highest lower end of its interval.

    With few instances the largest mean often belongs to a policy that improves some masks a lot and
    spoils others. Of equals the larger mean wins, then the first; None where there is no policy.
    """

    def sureness(name: str) -> tuple[float, float]:
        overall = gains[name]["all"]["all"]
        return (overall.gain if overall.low is None else overall.low), overall.gain

    return max(gains, key=sureness, default=None)


def hurts(gain: Gain, overall: Gain, enough: int = ENOUGH) -> bool:
    """Whether refinement is to be left off for a class or size.

    Its own mean gain decides where it has ``enough`` instances and the gain is not 0; otherwise the
    overall gain decides, which has to be above 0.
    """
    own = gain.gain if gain.instances >= enough else 0.0
    return own < 0 or (own == 0 and overall.gain <= 0)


def as_json(gains: Mapping[str, Mapping[str, Mapping[Any, Gain]]]) -> dict[str, Any]:
    """Gains as JSON values, category ids as text."""
    return {
        policy: {
            part: {str(key): asdict(gain) for key, gain in by_key.items()}
            for part, by_key in parts.items()
        }
        for policy, parts in gains.items()
    }
