"""One set of predictions from those of several views.

An instance's class distribution is the mean over all views, those that do not see it counting as
zero: where views disagree, scores shrink. Its soft mask is the mean over the views that see it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from s4m_pipeline.models.labeller.matching import matched
from s4m_pipeline.models.labeller.sightings import Lattice, Sighting
from s4m_pipeline.models.predictor import InstancePredictions

SURE = 1e-6
"""What a mean probability is short of 0 and 1 at least, so that it has a logit."""


def merged(
    sightings: Sequence[Sighting], views: int, lattice: Lattice, classes: int, min_score: float
) -> InstancePredictions:
    """Bring the sightings of a picture together and average them.

    Args:
        sightings: Those of all views.
        views: How many views there were, with those that saw nothing.
        lattice: The shared cells.
        classes: How many classes there are.
        min_score: Instances whose mean score is below this are left out.

    Returns:
        Predictions by falling score, with the number of views that saw each.
    """
    groups = [sorted(group) for group in matched(sightings, lattice.shape)]  # in the views' order
    probs = np.array(
        [_mean([sightings[n].class_probs for n in group], views) for group in groups], np.float32
    ).reshape(-1, classes)
    scores = probs.max(axis=1, initial=0.0)
    order = [n for n in np.argsort(-scores, kind="stable") if scores[n] >= min_score]
    logits = [_mean_logits([sightings[n] for n in groups[g]], lattice.shape) for g in order]
    return InstancePredictions(
        probs[order],
        np.array(logits, np.float32).reshape(-1, *lattice.shape),
        lattice.stride,
        views_seen=np.array([len(groups[g]) for g in order], np.uint8),
    )


def _mean(values: Sequence[np.ndarray], count: int) -> np.ndarray:
    return np.asarray(np.sum(values, axis=0, dtype=np.float64) / count)


def _mean_logits(sightings: Sequence[Sighting], shape: tuple[int, int]) -> np.ndarray:
    """Logits of the mean probability over the views that see an instance."""
    total = np.zeros(shape)
    for sighting in sightings:
        total[sighting.cells.cells] += sighting.mask
    mean = np.clip(total / len(sightings), SURE, 1 - SURE)
    return np.log(mean / (1 - mean))
