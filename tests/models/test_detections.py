"""Masks of detections as run-lengths, against pycocotools."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from pycocotools import mask as coco_mask

from s4m_pipeline.models.detections import encode_masks


def by_coco(masks: np.ndarray) -> list[bytes]:
    return [coco_mask.encode(np.asfortranarray(mask, np.uint8))["counts"] for mask in masks]


def drawn() -> np.ndarray:
    """Noise, an empty and a full mask, single pixels in corners, and a block."""
    masks = np.zeros((7, 37, 53), bool)
    masks[0] = np.random.default_rng(0).random((37, 53)) < 0.3
    masks[2] = True
    masks[3, 0, 0] = masks[4, -1, -1] = masks[5, 0, -1] = masks[5, -1, 0] = True
    masks[6, 10:20, 30:41] = True
    return masks


def test_run_lengths_are_pycocotools() -> None:
    masks = drawn()
    assert encode_masks(torch.from_numpy(masks)) == by_coco(masks)


def test_strided_masks_are_encoded_alike() -> None:
    masks = torch.from_numpy(drawn()).transpose(1, 2)
    assert encode_masks(masks) == by_coco(masks.numpy())


@pytest.mark.parametrize("shape", [(0, 4, 5), (0, 1, 1)])
def test_no_masks_give_no_run_lengths(shape: tuple[int, int, int]) -> None:
    assert encode_masks(torch.zeros(shape, dtype=torch.bool)) == []


def test_all_masks_empty() -> None:
    masks = torch.zeros(2, 4, 5, dtype=torch.bool)
    assert encode_masks(masks) == by_coco(masks.numpy())
