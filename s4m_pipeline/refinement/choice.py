"""From the segmenter's candidates to one mask an instance, on as few pixels as possible.

Candidates are compared as low-resolution logits; only the chosen one is brought to the image's
pixels, inside the window that can hold any of its foreground.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from s4m_pipeline.devices.transfers import to_device
from s4m_pipeline.errors import UsageError
from s4m_pipeline.refinement.resampling import (
    Window,
    bilinear,
    bilinear_above,
    pixel_positions,
    reach,
)
from s4m_pipeline.refinement.rle import encode_crop
from s4m_pipeline.segmenter.base import Candidates, Frame

CHOICES = ("argmax-iou", "single", "closest", "fuse")
MULTIMASK_CHOICES = ("argmax-iou", "closest")


def wants_multimask(choice: str) -> bool:
    """Whether a choice looks at three candidates rather than at the single-mask output.

    Raises:
        UsageError: It is not one of `CHOICES`.
    """
    if choice not in CHOICES:
        raise UsageError(f"unknown refine.candidate {choice!r}; there are {', '.join(CHOICES)}")
    return choice in MULTIMASK_CHOICES


def choose(candidates: Candidates, choice: str, teacher_logits: Tensor | None = None) -> Tensor:
    """Which candidate of each instance is taken.

    Args:
        candidates: Of N instances.
        choice: One of `CHOICES`.
        teacher_logits: float32 (N, 1, 4h, 4w), the teacher's soft masks in the model's frame;
            "closest" looks at them.

    Returns:
        int64 (N,); the first of equals.

    Raises:
        ValueError: "closest" has no logits to look at.
    """
    if choice == "argmax-iou":
        return candidates.ious.argmax(1)
    if choice == "closest":
        if teacher_logits is None:
            raise ValueError("closest needs the teacher's logits")
        ours = candidates.logits > 0
        theirs = to_device(teacher_logits, ours.device) > 0
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
    valid = frame.valid_height, frame.valid_width
    return cells * valid[0] / frame.view_height, cells * valid[1] / frame.view_width


def segmenter_mask(logits: np.ndarray, frame: Frame, image_size: int) -> bytes:
    """The segmenter's mask at the image's pixels: bilinear logits above 0, within the view.

    Args:
        logits: float32 (4h, 4w) in the model's frame.
        frame: How the image lies in the model's input.
        image_size: Side of the model's input in pixels.

    Returns:
        COCO's compressed counts, equal to those of resizing the whole map.
    """
    rates = cell_rates(frame, image_size, len(logits))
    window = reach(logits > 0, *rates, frame.view_height, frame.view_width)
    mask = bilinear_above(logits, *_positions(rates, window), 0)
    x, y = frame.x + window.x, frame.y + window.y
    return encode_crop(mask, x, y, frame.height, frame.width)


def logits_on(logits: np.ndarray, rates: tuple[float, float], window: Window) -> np.ndarray:
    """The bilinear logits at the pixels of a window.

    Args:
        logits: float32 (4h, 4w) in the model's frame.
        rates: Mask cells per original pixel along y and x.
        window: The pixels wanted, counted from the view's first.

    Returns:
        float32, the window's (height, width), column-major.
    """
    return bilinear(logits, *_positions(rates, window))


def _positions(rates: tuple[float, float], window: Window) -> tuple[np.ndarray, np.ndarray]:
    ys = pixel_positions(window.y, window.height, rates[0])
    xs = pixel_positions(window.x, window.width, rates[1])
    return ys, xs
