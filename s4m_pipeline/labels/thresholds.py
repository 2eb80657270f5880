"""Score thresholds per class: for the labelled set's rate, a precision or the best F1. No torch.

A prediction becomes a label when its score is *above* its class's threshold.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

ENOUGH = 5
"""Labelled instances (rate) or predictions on labelled images (precision) that a class needs for a
threshold of its own."""


@dataclass(frozen=True, slots=True)
class Thresholds:
    """Thresholds of all classes.

    Attributes:
        scores: By category id.
        pooled: Categories with too little data for a threshold of their own: with ``rate`` they
            share one, with ``precision`` they have that of all classes together.
    """

    scores: dict[int, float]
    pooled: tuple[int, ...] = ()


def fixed_thresholds(categories: Sequence[int], score: float) -> Thresholds:
    """The same threshold for every category."""
    return Thresholds(dict.fromkeys(categories, score))


def rate_threshold(scores: np.ndarray, wanted: int, floor: float) -> float:
    """The lowest threshold that lets through no more than a number of predictions.

    Args:
        scores: float (N,), in any order.
        wanted: How many predictions; of equal scores at the limit none is let through.
        floor: The threshold is not below this.
    """
    falling = -np.sort(-np.asarray(scores, np.float64))
    limit = float(falling[wanted]) if wanted < len(falling) else floor
    return max(limit, floor)


def rate_thresholds(
    scores: Mapping[int, np.ndarray],
    images: int,
    labelled: Mapping[int, int],
    labelled_images: int,
    floor: float,
    enough: int = ENOUGH,
) -> Thresholds:
    """Thresholds at which the number of pseudo-instances an image follows the labelled set's.

    Args:
        scores: By category id, the scores of its predictions on the unlabelled images.
        images: Number of unlabelled images.
        labelled: Number of labelled instances by category id; the keys are all categories.
        labelled_images: Number of labelled images.
        floor: No threshold is below this.
        enough: Categories with fewer labelled instances share one threshold, at which they together
            follow their common rate.
    """
    none = np.zeros(0)
    per_image = {key: count / max(labelled_images, 1) for key, count in labelled.items()}
    few = tuple(key for key, count in labelled.items() if count < enough)
    rare = np.concatenate([none, *(scores.get(key, none) for key in few)])
    pooled = rate_threshold(rare, round(sum(per_image[key] for key in few) * images), floor)
    own = {
        key: rate_threshold(scores.get(key, none), round(rate * images), floor)
        for key, rate in per_image.items()
    }
    return Thresholds(own | dict.fromkeys(few, pooled), few)


def precision_threshold(
    scores: np.ndarray, true: np.ndarray, precision: float, floor: float
) -> float:
    """The lowest threshold above which the share of true predictions is at least a precision.

    Args:
        scores: float (N,), in any order.
        true: bool (N,), which predictions match a true instance.
        precision: The share asked for.
        floor: The threshold is not below this.

    Returns:
        The threshold; 1 where no threshold reaches the precision.
    """
    ranked, hits, ends = _ranked(scores, true, floor)
    if not len(ranked):
        return 1.0
    reached = np.cumsum(hits) >= precision * np.arange(1, len(ranked) + 1) - 1e-9
    cuts = np.flatnonzero(reached & ends)
    return _threshold_after(ranked, int(cuts[-1]), floor) if len(cuts) else 1.0


def _ranked(
    scores: np.ndarray, true: np.ndarray, floor: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scores above the floor from the highest down, which are true, and where a cut may be."""
    usable = np.asarray(scores, np.float64) > floor
    falling = np.argsort(-scores[usable], kind="stable")
    ranked = np.asarray(scores, np.float64)[usable][falling]
    ends = np.append(ranked[1:] < ranked[:-1], True)  # equal scores go together
    return ranked, true[usable][falling], ends[: len(ranked)]


def _threshold_after(ranked: np.ndarray, last: int, floor: float) -> float:
    """The threshold that lets through falling scores up to a place, and no more."""
    return float(ranked[last + 1]) if last + 1 < len(ranked) else floor


def _together(parts: Mapping[int, np.ndarray], categories: Sequence[int]) -> np.ndarray:
    """What all classes have, of the type that they have it in."""
    found = [parts[key] for key in categories if key in parts]
    return np.concatenate(found) if found else np.zeros(0)


def precision_thresholds(
    scores: Mapping[int, np.ndarray],
    true: Mapping[int, np.ndarray],
    categories: Sequence[int],
    precision: float,
    floor: float,
    enough: int = ENOUGH,
) -> Thresholds:
    """The lowest thresholds that reach a precision on images whose truth is known.

    Args:
        scores: By category id, the scores of its predictions on the labelled images.
        true: By category id, bool for each of these scores.
        categories: All category ids.
        precision: The precision asked for.
        floor: No threshold is below this.
        enough: A category with fewer predictions above the floor, true or false, takes the
            threshold of all classes together.
    """
    none, no_hits = np.zeros(0), np.zeros(0, bool)
    own_scores = {key: np.asarray(scores.get(key, none), np.float64) for key in categories}
    hits = {key: np.asarray(true.get(key, no_hits), bool) for key in categories}
    pooled = precision_threshold(
        _together(own_scores, categories), _together(hits, categories), precision, floor
    )
    few = tuple(key for key in categories if int((own_scores[key] > floor).sum()) < enough)
    own = {
        key: precision_threshold(own_scores[key], hits[key], precision, floor) for key in categories
    }
    return Thresholds(own | dict.fromkeys(few, pooled), few)


def best_threshold(scores: np.ndarray, true: np.ndarray, instances: int, floor: float) -> float:
    """The threshold above which predictions have the best F1, the highest of equally good ones.

    F1 is the harmonic mean of precision and recall: twice the true predictions over predictions and
    instances together.

    Args:
        scores: float (N,), in any order.
        true: bool (N,), which predictions match a true instance.
        instances: How many true instances there are.
        floor: The threshold is not below this.

    Returns:
        The threshold; 1 where none of the predictions above the floor is true.
    """
    ranked, hits, ends = _ranked(scores, true, floor)
    if not hits.any():
        return 1.0
    f1 = 2 * np.cumsum(hits) / (np.arange(1, len(ranked) + 1) + instances)
    return _threshold_after(ranked, int(np.argmax(np.where(ends, f1, -1.0))), floor)


def best_thresholds(
    scores: Mapping[int, np.ndarray],
    true: Mapping[int, np.ndarray],
    categories: Sequence[int],
    instances: int,
    floor: float,
) -> Thresholds:
    """The threshold with the best F1 on images whose truth is known, the same for all classes.

    Args:
        scores: By category id, the scores of its predictions on the labelled images.
        true: By category id, bool for each of these scores.
        categories: All category ids.
        instances: Instances on the labelled images, crowds left out.
        floor: The threshold is not below this.
    """
    best = best_threshold(
        _together(scores, categories), _together(true, categories), instances, floor
    )
    return Thresholds(dict.fromkeys(categories, best))
