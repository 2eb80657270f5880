"""The instances that a network reports for an image, with their masks as run-lengths."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import rlemasklib
import torch
from torch import Tensor


@dataclass(slots=True)
class Detections:
    """Scored instances of an image, as the model itself reports them.

    Attributes:
        labels: int64 (N,), places in the categories.
        scores: float32 (N,).
        boxes: float32 (N, 4) x0, y0, x1, y1 in pixels of the original image.
        rles: N masks as COCO's compressed RLE, over the original image.
    """

    labels: np.ndarray
    scores: np.ndarray
    boxes: np.ndarray
    rles: list[bytes]

    @classmethod
    def of(cls, instances: Any) -> Detections:
        """Take a model's instances to the host.

        Args:
            instances: MMDetection's ``pred_instances`` with ``masks``: bool (N, H, W), or a list
                of COCO's compressed RLEs.
        """
        masks = instances.masks
        encoded = isinstance(masks, list)
        return cls(
            labels=instances.labels.cpu().numpy().astype(np.int64),
            scores=instances.scores.float().cpu().numpy(),
            boxes=instances.bboxes.float().cpu().numpy(),
            rles=[bytes(one["counts"]) for one in masks] if encoded else encode_masks(masks),
        )


def encode_masks(masks: Tensor) -> list[bytes]:
    """Encode masks. Only the window around each mask is copied to the host, all of them at once.

    Args:
        masks: bool (N, H, W), on any device.

    Returns:
        N masks as COCO's compressed RLE.
    """
    if not len(masks):
        return []
    pixels = masks.bool().contiguous().view(torch.uint8)
    sides = [line_spans(pixels.amax(2)), line_spans(pixels.amax(1))]
    windows = torch.stack([bound for side in sides for bound in side], dim=1).tolist()
    crops = [
        mask[top:bottom, left:right]
        for mask, (top, bottom, left, right) in zip(pixels, windows, strict=True)
    ]
    flat = torch.cat([crop.flatten() for crop in crops]).cpu().numpy().view(bool)
    parts = np.split(flat, np.cumsum([crop.numel() for crop in crops])[:-1])
    size = (masks.shape[1], masks.shape[2])
    return [
        _encode(part.reshape(crop.shape), window, size)
        for part, crop, window in zip(parts, crops, windows, strict=True)
    ]


def line_spans(lines: Tensor) -> tuple[Tensor, Tensor]:
    """Each mask's first line with a pixel and the one after the last; all lines of an empty mask.

    Args:
        lines: uint8 (N, L), rows or columns, 1 where a line has a pixel.
    """
    return lines.argmax(1), lines.shape[1] - lines.flip(1).argmax(1)


def _encode(crop: np.ndarray, window: list[int], size: tuple[int, int]) -> bytes:
    """Compressed RLE of a mask that is empty outside its window (top, bottom, left, right)."""
    top, bottom, left, right = window
    encoded = rlemasklib.RLEMask.from_array(np.asfortranarray(crop))
    encoded.pad(top, size[0] - bottom, left, size[1] - right, inplace=True)
    return bytes(encoded.to_dict()["counts"])
