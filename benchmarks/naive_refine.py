"""The released method's way to refine an image's instances, in plain PyTorch.

One image at a time through `SAM2ImagePredictor`: all candidates of all instances upsampled to the
image's size, thresholded and copied as floats, the best-scored of each gathered and encoded alone.
"""

from __future__ import annotations

import numpy as np
import torch
from pycocotools import mask as mask_api
from sam2.modeling.sam2_base import SAM2Base
from sam2.sam2_image_predictor import SAM2ImagePredictor
from torch import Tensor

POINTS = 3
"""Prompt points an instance."""


def predictor_of(model: SAM2Base) -> SAM2ImagePredictor:
    """SAM 2's predictor, its feature sizes set by the model's input rather than fixed."""
    predictor = SAM2ImagePredictor(model)
    side = model.image_size // 16
    predictor._bb_feat_sizes = [(4 * side, 4 * side), (2 * side, 2 * side), (side, side)]
    return predictor


def draw_points(logits: Tensor, stride: float) -> np.ndarray:
    """Draw prompt points without replacement from the softmax of the teacher's mask logits.

    Args:
        logits: float32 (N, h, w), mask logits.
        stride: Pixels per cell.

    Returns:
        float32 (N, 3, 2), x and y in pixels.
    """
    shares = logits.flatten(1).softmax(1)
    drawn = torch.multinomial(shares, POINTS)
    x, y = drawn % logits.shape[2], drawn // logits.shape[2]
    return ((torch.stack([x, y], 2).float() + 0.5) * stride).cpu().numpy()


def refine_image(
    predictor: SAM2ImagePredictor, image: np.ndarray, points: np.ndarray
) -> list[bytes]:
    """Refine an image's instances.

    Args:
        predictor: SAM 2's.
        image: uint8 (H, W, 3), RGB.
        points: float32 (N, 3, 2), positive points, x and y in pixels.

    Returns:
        COCO's compressed counts of the N masks.
    """
    predictor.set_image(image)
    masks, scores, _ = predictor.predict(
        points, np.ones(points.shape[:2], np.int32), multimask_output=True
    )
    best = masks[np.arange(len(points)), scores.argmax(1)]
    return [encode(mask) for mask in best]


def encode(mask: np.ndarray) -> bytes:
    """COCO's compressed counts of a mask (H, W) of any number type."""
    return bytes(mask_api.encode(np.asfortranarray(mask.astype(np.uint8)))["counts"])
