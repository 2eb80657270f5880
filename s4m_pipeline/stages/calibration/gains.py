"""What refinement brings, measured on labelled images: folds, gains, the choice. No torch.

One measurement is a prediction of a teacher that did not see the image, the policy that refined it,
and the IoU of its mask with the true one before and after.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from s4m_pipeline.artifacts.seeds import rng
from s4m_pipeline.refinement.sizes import SIZES, size_of

ENOUGH = 10
"""Instances that a class or size needs for an answer of its own."""
DRAWS = 1000
"""Bootstrap samples of an interval."""


@dataclass(frozen=True, slots=True)
class Measured:
    """Measurements as columns, one element an instance and policy.

    Attributes:
        image_id: int64.
        category_id: int64, the prediction's class.
        area: int64, pixels of the teacher's mask (all that is known where labels are made).
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

    def take(self, chosen: np.ndarray) -> Measured:
        """The measurements that a bool array marks."""
        return Measured(*(getattr(self, name)[chosen] for name in self.__slots__))


@dataclass(frozen=True, slots=True)
class Gain:
    """Mean IoU before and after, with the 95 % interval of the difference.

    Attributes:
        instances: How many were measured; the figures are None where there are none.
        before: Mean IoU of the teacher's masks.
        after: Mean IoU of the final ones.
        low: Lower end of the interval of ``after - before``; None for a single image, which says
            nothing about others.
        high: Its upper end.
    """

    instances: int
    before: float | None = None
    after: float | None = None
    low: float | None = None
    high: float | None = None

    @property
    def gain(self) -> float:
        """Mean gain; 0 where nothing was measured."""
        return 0.0 if self.after is None or self.before is None else self.after - self.before


def assign_folds(
    classes: Sequence[Sequence[int]], folds: int, generator: np.random.Generator
) -> np.ndarray:
    """Share out images among folds, each class and the images themselves as evenly as may be.

    Images come by their rarest class, the rarest first, in random order within one; each goes to
    the fold that has fewest of that class, then fewest images, among those that are not full.

    Args:
        classes: Category ids of each image's instances.
        folds: At most as many as images.
        generator: Decides among equals.

    Returns:
        int64 (images,), the fold of each.
    """
    totals: dict[int, int] = {}
    for found in classes:
        for key in found:
            totals[key] = totals.get(key, 0) + 1
    most = max(totals.values(), default=0)
    rarest = [min(found, key=lambda key: (totals[key], key), default=-1) for found in classes]
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
        groups: (N,), what is drawn (the image of each value).
        generator: Draws.
        draws: Samples.
    """
    _, place = np.unique(groups, return_inverse=True)
    sums = np.bincount(place, weights=values)
    counts = np.bincount(place)
    drawn = generator.multinomial(len(sums), np.full(len(sums), 1 / len(sums)), size=draws)
    low, high = np.quantile(drawn @ sums / (drawn @ counts), [0.025, 0.975])
    return float(low), float(high)


def gain_of(measured: Measured, seed: int) -> Gain:
    """Mean IoU before and after of some measurements of one policy; ``seed`` of the interval."""
    count = len(measured.before)
    if not count:
        return Gain(0)
    before, after = float(measured.before.mean()), float(measured.after.mean())
    if len(np.unique(measured.image_id)) < 2:
        return Gain(count, before, after)
    difference = measured.after - measured.before
    generator = rng(seed, "calibrate", "interval")
    low, high = bootstrap_interval(difference, measured.image_id, generator)
    return Gain(count, before, after, low, high)


def gains_by_size(measured: Measured, seed: int) -> dict[str, Gain]:
    """Gains of some measurements of one policy by size; ``seed`` of the intervals."""
    sizes = np.array([size_of(area) for area in measured.area.tolist()], dtype=object)
    return {size: gain_of(measured.take(sizes == size), seed) for size in SIZES}


def gains_by(
    measured: Measured, categories: Sequence[int], seed: int
) -> dict[str, dict[str, dict[Any, Gain]]]:
    """Gains of each policy over all instances, by size and by class.

    Args:
        measured: The measurements.
        categories: All category ids.
        seed: Of the intervals; all draw the same images where they are of the same.

    Returns:
        By policy, in the order met: ``{"all": {"all": gain}, "size": {...}, "class": {...}}``.
    """
    found: dict[str, dict[str, dict[Any, Gain]]] = {}
    for policy in dict.fromkeys(measured.policy.tolist()):
        own = measured.take(measured.policy == policy)
        found[policy] = {
            "all": {"all": gain_of(own, seed)},
            "size": gains_by_size(own, seed),
            "class": {key: gain_of(own.take(own.category_id == key), seed) for key in categories},
        }
    return found


def best_policy(gains: Mapping[str, Mapping[str, Mapping[Any, Gain]]]) -> str | None:
    """The policy whose gain is surest: the one with the highest lower end of its interval.

    With few instances the largest mean is often that of a policy that mends some masks by much and
    spoils others. Of equals the larger mean goes first, then the order; None where there is none.
    """

    def sureness(name: str) -> tuple[float, float]:
        overall = gains[name]["all"]["all"]
        return (overall.gain if overall.low is None else overall.low), overall.gain

    return max(gains, key=sureness, default=None)


def hurts(gain: Gain, overall: Gain, enough: int = ENOUGH) -> bool:
    """Whether refinement is to be left off for a class or size.

    Its own mean gain decides where it has ``enough`` instances and they gained or lost; elsewhere
    the overall one, which has to be above 0.
    """
    own = gain.gain if gain.instances >= enough else 0.0
    return own < 0 or (own == 0 and overall.gain <= 0)


def as_json(gains: Mapping[str, Mapping[str, Mapping[Any, Gain]]]) -> dict[str, Any]:
    """Gains as JSON values, category ids as text."""
    return {
        policy: {
            part: {str(key): asdict(gain) for key, gain in found.items()}
            for part, found in parts.items()
        }
        for policy, parts in gains.items()
    }
