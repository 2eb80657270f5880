"""Regions of doubt: where uncertain masks lie on pseudo-labelled images, nothing costs anything."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from s4m_pipeline.devices.transfers import to_device
from s4m_pipeline.training_data.packed_masks import union

UNLABELLED = "unlabelled"
BACKGROUND = -1e4
"""A logit whose probability and whose loss against an empty target are 0, in half precision too."""

SURE = -20.0
"""A logit of background that no point is drawn for; moderate, as matching adds up such costs."""


def doubtful_pixels(sample: Any) -> Tensor | None:
    """The union of a pseudo-labelled image's ignored instances, without what its labels cover.

    A pixel of a label is certain, whatever else was predicted there; so a second, less certain
    prediction of a labelled object does not excuse queries that repeat it.

    Args:
        sample: The image's data sample; its labels' masks are padded to ``batch_input_shape``.

    Returns:
        bool (H, W) over the padded input; None for a labelled image and where nothing is ignored.
    """
    ignored = sample.get("ignored_instances")
    if sample.metainfo.get("branch") != UNLABELLED or ignored is None or not len(ignored):
        return None
    labels = sample.gt_instances
    doubtful = np.zeros(sample.metainfo["batch_input_shape"], bool)
    inside = union(ignored.masks)
    doubtful[: inside.shape[0], : inside.shape[1]] = inside
    doubtful &= ~union(labels.masks)
    return to_device(torch.from_numpy(doubtful), labels.labels.device)


def hide_pixels(logits: Tensor, doubtful: Tensor) -> Tensor:
    """Make predicted masks background in doubtful pixels, to match labels and to choose points.

    Args:
        logits: float (Q, h, w) mask logits.
        doubtful: bool (H, W) over the same input.
    """
    return logits.masked_fill(_on_grid(doubtful, logits) > 0.5, SURE)


def mostly_inside(logits: Tensor, doubtful: Tensor) -> Tensor:
    """Which predicted masks lie with more than half of their pixels in the doubtful ones.

    Args:
        logits: float (Q, h, w) mask logits; a pixel is predicted above 0.
        doubtful: bool (H, W) over the same input.

    Returns:
        bool (Q,); False for a mask without any pixel.
    """
    share = _on_grid(doubtful, logits)
    masks = (logits > 0).float()
    return (masks * share).sum((1, 2)) > 0.5 * masks.sum((1, 2))


def _on_grid(doubtful: Tensor, logits: Tensor) -> Tensor:
    """Share of doubtful pixels in each cell of (Q, h, w) logits: float (h, w)."""
    return F.interpolate(doubtful[None, None].float(), logits.shape[-2:], mode="area")[0, 0]


def hide_points(logits: Tensor, targets: Tensor, doubtful: Tensor) -> tuple[Tensor, Tensor]:
    """Take sampled points out of the mask losses: doubtful ones outside of the own mask.

    A hidden point counts as background that is predicted as such: neither cross-entropy nor dice
    sees it, and its gradient is exactly 0. The losses' divisors stay, so each other point costs
    what it would cost without regions of doubt.

    Args:
        logits: float (M, P) mask logits at the points.
        targets: float (M, P) in 0 to 1, the own mask at the points.
        doubtful: float (M, P) in 0 to 1, the image's doubtful pixels at the points.

    Returns:
        Logits and targets, hidden points changed.
    """
    hidden = (doubtful > 0.5) & (targets < 0.5)
    return logits.masked_fill(hidden, BACKGROUND), targets.masked_fill(hidden, 0.0)
