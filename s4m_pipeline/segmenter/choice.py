"""From the segmenter's candidates to one mask an instance, on as few pixels as possible.

Candidates are compared as low-resolution logits; only the chosen one is brought to the image's
pixels, inside the window that can hold any of its foreground.
"""

from __future__ import annotations

import numpy as np
import torch
from scipy.special import expit
from torch import Tensor

from s4m_pipeline.errors import UsageError
from s4m_pipeline.segmenter.base import Candidates, Frame
from s4m_pipeline.segmenter.instances import TeacherInstance
from s4m_pipeline.segmenter.resampling import (
    Window,
    bilinear,
    intersection,
    pixel_positions,
    reach,
    union,
)
from s4m_pipeline.segmenter.rle import encode_crop
from s4m_pipeline.segmenter.soft_masks import LEVELS, soft_mask_to_pixels, soft_mask_window

CHOICES = ("argmax-iou", "single", "closest", "fuse")
MULTIMASK_CHOICES = ("argmax-iou", "closest")


def wants_multimask(choice: str) -> bool:
    """Whether a choice looks at three candidates rather than at the single-mask output.

    Raises:
        UsageError: It is none of `CHOICES`.
    """
    if choice not in CHOICES:
        raise UsageError(f"unknown refine.candidate {choice!r}; there are {', '.join(CHOICES)}")
    return choice in MULTIMASK_CHOICES


def choose(candidates: Candidates, choice: str, teacher_logits: Tensor) -> Tensor:
    """Which candidate of each instance is taken.

    Args:
        candidates: Of N instances.
        choice: One of `CHOICES`.
        teacher_logits: float32 (N, 1, 4h, 4w), the teacher's soft masks in the model's frame.

    Returns:
        int64 (N,); the first of equals.
    """
    if choice == "argmax-iou":
        return candidates.ious.argmax(1)
    if choice == "closest":
        ours = candidates.logits > 0
        theirs = teacher_logits.to(ours.device) > 0
        shared = (ours & theirs).flatten(2).sum(2)
        either = (ours | theirs).flatten(2).sum(2)
        return (shared / either.clamp(min=1)).argmax(1)
    return torch.zeros(len(candidates.ious), dtype=torch.int64, device=candidates.ious.device)


def cell_rates(frame: Frame, image_size: int, size: int) -> tuple[float, float]:
    """Mask cells per original pixel along y and x.

    Args:
        frame: How the image lies in the model's input.
        image_size: Side of the model's input in pixels.
        size: Side of the mask logits in cells.
    """
    cells = size / image_size
    return cells * frame.valid_height / frame.height, cells * frame.valid_width / frame.width


def segmenter_mask(logits: np.ndarray, frame: Frame, image_size: int) -> bytes:
    """The segmenter's mask at the image's pixels: bilinear logits above 0.

    Args:
        logits: float32 (4h, 4w) in the model's frame.
        frame: How the image lies in the model's input.
        image_size: Side of the model's input in pixels.

    Returns:
        COCO's compressed counts, equal to those of resizing the whole map.
    """
    rates = cell_rates(frame, image_size, len(logits))
    window = reach(logits > 0, *rates, frame.height, frame.width)
    mask = _logits_on(logits, rates, window) > 0
    return encode_crop(mask, window.x, window.y, frame.height, frame.width)


def fused_mask(
    logits: np.ndarray, instance: TeacherInstance, frame: Frame, image_size: int
) -> bytes:
    """Where the mean of the segmenter's and the teacher's probability is above one half.

    One of the two must be above one half there, and the teacher's must not be 0, which bounds
    the window that is looked at.

    Args:
        logits: float32 (4h, 4w), the segmenter's single mask in the model's frame.
        instance: The teacher's prediction.
        frame: How the image lies in the model's input.
        image_size: Side of the model's input in pixels.

    Returns:
        COCO's compressed counts.
    """
    height, width = frame.height, frame.width
    rates = cell_rates(frame, image_size, len(logits))
    soft, box, stride = instance.soft_mask, instance.soft_mask_box, instance.stride
    support = soft_mask_window(soft > 0, box, stride, height, width)
    likely = soft_mask_window(soft > LEVELS / 2, box, stride, height, width)
    window = union(likely, reach(logits > 0, *rates, height, width))
    window = intersection(window, support)
    theirs = soft_mask_to_pixels(soft, box, stride, height, width, window)
    total = expit(_logits_on(logits, rates, window))
    total += theirs
    return encode_crop(total > 1, window.x, window.y, height, width)


def _logits_on(logits: np.ndarray, rates: tuple[float, float], window: Window) -> np.ndarray:
    ys = pixel_positions(window.y, window.height, rates[0])
    xs = pixel_positions(window.x, window.width, rates[1])
    return bilinear(logits, ys, xs)
