"""The segmenter's evidence and the teacher's, weighed against each other pixel by pixel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from scipy.special import expit, logit

from s4m_pipeline.refinement.choice import cell_rates, logits_on
from s4m_pipeline.refinement.instances import TeacherInstance
from s4m_pipeline.refinement.resampling import Window, intersection, reach, union
from s4m_pipeline.refinement.rle import encode_crop
from s4m_pipeline.refinement.soft_masks import LEVELS, soft_mask_to_pixels, soft_mask_window
from s4m_pipeline.segmenter.base import Frame

NEAREST = 0.5 / LEVELS
"""How near a teacher's probability may come to 0 or 1 where its logit is taken."""


def fused_mask(
    maps: np.ndarray,
    instance: TeacherInstance,
    frame: Frame,
    image_size: int,
    weight: float = 0.5,
    threshold: float = 0.5,
    space: str = "probabilities",
    shares: Sequence[float] = (),
) -> bytes:
    """Where the weighted mean of the teacher's and the segmenter's values is above a threshold.

    In space "probabilities" the segmenter's value at a pixel is the mean of its K masks'
    probabilities, weighted by ``shares``. In "logits" it is the mean of their logits, the
    teacher's is the logit of its probability, held half a stored level away from 0 and 1, and the
    threshold is the probability's logit. The teacher's probability outside its crop is 0. The mask
    ends where the view does.

    Args:
        maps: float32 (K, 4h, 4w), mask logits of K prompts in the model's frame.
        instance: The teacher's prediction.
        frame: How the image lies in the model's input.
        image_size: Side of the model's input in pixels.
        weight: The teacher's share, from 0 to 1.
        threshold: A probability.
        space: "probabilities" or "logits".
        shares: (K,), weights of the K masks, of any positive sum; none for equal ones.

    Returns:
        COCO's compressed counts.
    """
    height, width = frame.height, frame.width
    in_logits = space == "logits"
    parts = np.asarray(shares, np.float32) / np.float32(sum(shares)) if len(shares) else None
    if in_logits:
        maps = maps.mean(0, keepdims=True) if parts is None else np.tensordot(parts, maps, 1)[None]
    rates = cell_rates(frame, image_size, maps.shape[-1])
    window = _window(maps, instance, frame, rates, weight, threshold, in_logits)
    soft = (instance.soft_mask, instance.soft_mask_box, instance.stride)
    theirs = soft_mask_to_pixels(*soft, height, width, window)
    seen = replace(window, x=window.x - frame.x, y=window.y - frame.y)
    total = _ours(maps, rates, seen, in_logits, parts)
    if in_logits:
        theirs = _logit(theirs)
    total *= 1 - weight
    theirs *= weight
    total += theirs
    level = float(logit(threshold)) if in_logits else threshold
    return encode_crop(total > level, window.x, window.y, height, width)


def _ours(
    maps: np.ndarray,
    rates: tuple[float, float],
    window: Window,
    in_logits: bool,
    parts: np.ndarray | None,
) -> np.ndarray:
    """The segmenter's values at a window's pixels: the one map's logits, or all maps' mean."""
    if in_logits:
        return logits_on(maps[0], rates, window)
    total = expit(logits_on(maps[0], rates, window))
    if parts is not None:
        total *= parts[0]
    for n, other in enumerate(maps[1:], 1):
        value = expit(logits_on(other, rates, window))
        total += value if parts is None else parts[n] * value
    if parts is None:
        total /= len(maps)
    return total


def _window(
    maps: np.ndarray,
    instance: TeacherInstance,
    frame: Frame,
    rates: tuple[float, float],
    weight: float,
    threshold: float,
    in_logits: bool,
) -> Window:
    """The pixels that can be above the threshold.

    One of the two must be above it there, and neither so low that the other's largest value
    cannot make up for it.
    """
    height, width = frame.height, frame.width
    view = Window(frame.x, frame.y, frame.view_width, frame.view_height)
    theirs = instance.soft_mask / np.float32(LEVELS)
    ours = maps[0] if len(maps) == 1 else maps.max(0)
    level, outside, their_most, our_most = threshold, 0.0, 1.0, 1.0
    if in_logits:
        theirs, level = _logit(theirs), float(logit(threshold))
        outside, their_most = _logit(np.array([0, 1], np.float32)).tolist()
        our_most = float(ours.max())

    def where_theirs(bound: float) -> Window:
        if bound < outside:
            return Window(0, 0, width, height)
        box, stride = instance.soft_mask_box, instance.stride
        return soft_mask_window(theirs > bound, box, stride, height, width)

    def where_ours(bound: float) -> Window:
        limit = bound if in_logits else float(logit(np.clip(bound, 0, 1)))
        if limit == -np.inf:
            return view
        seen = reach(ours > limit, *rates, view.height, view.width)
        return replace(seen, x=view.x + seen.x, y=view.y + seen.y)

    window = union(where_theirs(level), where_ours(level))
    if weight > 0:
        window = intersection(window, where_theirs((level - (1 - weight) * our_most) / weight))
    if weight < 1:
        window = intersection(window, where_ours((level - weight * their_most) / (1 - weight)))
    return intersection(window, view)


def _logit(probabilities: np.ndarray) -> np.ndarray:
    clipped = np.clip(probabilities, np.float32(NEAREST), np.float32(1 - NEAREST))
    return logit(clipped)
