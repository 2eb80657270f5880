"""The proof that a faster way of running a segmenter still gives its masks.

Lower precision and compiled kernels change the last digits. A fault in them can change everything
and raise no error. So the faster way is compared with float32 on the first images.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from s4m_pipeline.segmenter.base import Prompts, Segmenter

LEAST_IOU = 0.995
"""Mean IoU with the float32 masks below which a faster way is given up."""
PROOF_IMAGES = 4
"""At most how many images the two are compared on."""
LATTICE = 4
"""Points along each side of an image that prompt for masks."""


def lattice_prompts(height: int, width: int) -> Prompts:
    """The places of a regular lattice, each a prompt of one positive point.

    Args:
        height: Of the image in pixels.
        width: Likewise.

    Returns:
        16 prompts of a point each, in original image pixels.
    """
    steps = (np.arange(LATTICE, dtype=np.float32) + 0.5) / LATTICE
    x, y = np.meshgrid(steps * width, steps * height)
    points = np.stack([x.ravel(), y.ravel()], 1)[:, None]
    return Prompts(points.astype(np.float32), np.ones((len(points), 1), np.int32))


@torch.inference_mode()
def lattice_masks(segmenter: Segmenter, images: Sequence[np.ndarray]) -> Tensor:
    """The single-mask outputs of the lattice's prompts.

    Args:
        segmenter: Run as it is set.
        images: uint8 (H, W, 3) RGB arrays, B of them.

    Returns:
        bool (B * 16, 4h, 4w), mask cells in the model's frame.
    """
    embeddings = segmenter.encode(images)
    prompts = [lattice_prompts(*image.shape[:2]) for image in images]
    answers = segmenter.decode(embeddings, prompts, multimask=False)
    return torch.cat([candidates.logits[:, 0] > 0 for candidates in answers])


def mean_iou(masks: Tensor, truth: Tensor) -> float:
    """Mean IoU of masks with the true ones; a pair of empty masks counts as 1.

    Args:
        masks: bool (N, h, w).
        truth: bool (N, h, w).
    """
    shared = (masks & truth).flatten(1).sum(1)
    either = (masks | truth).flatten(1).sum(1)
    return float(torch.where(either > 0, shared / either.clamp(min=1), 1.0).mean())
