"""Which labels match which true instances: one rule for label quality and for thresholds. No torch.

Two metrics follow rules of their own, because their authors' do: COCO's average precision, which
its engines count, and Cityscapes' (``metrics.cityscapes_metric``).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from pycocotools import mask as mask_api

from s4m_pipeline.data.formats.coco.segmentation import as_coco_rles
from s4m_pipeline.data.image_set import Instance

TRUE, FALSE, IGNORED = 1, 0, -1
"""What a label can be: matched, wrong, or not counted because it lies in a crowd."""
MIN_IOU = 0.5
"""A match needs a mask IoU above this."""
MIN_IN_CROWD = 0.5
"""A label does not count when a larger share of its pixels lies in a crowd."""


class Label(NamedTuple):
    """An instance that somebody claims to see in an image.

    Attributes:
        category_id: COCO's category id.
        rle: The mask's COCO compressed RLE counts.
        score: 0 to 1.
    """

    category_id: int
    rle: bytes
    score: float


class Matches(NamedTuple):
    """What the labels of an image match.

    Attributes:
        flags: int64 (labels,) of ``TRUE``, ``FALSE`` and ``IGNORED``.
        ious: float64 (labels,), mask IoU with the matched instance; 0 where there is none.
        partners: int64 (labels,), the matched instance's place; -1 where there is none.
    """

    flags: np.ndarray
    ious: np.ndarray
    partners: np.ndarray


def match_labels(
    labels: Sequence[Label],
    truth: Sequence[Instance],
    ious: np.ndarray,
    min_iou: float = MIN_IOU,
) -> Matches:
    """Match an image's labels with its true instances.

    By falling score, each label takes the free true instance of its class with the highest mask
    IoU, if that is above ``min_iou``. Crowds are matched by none. A label that matches nothing is
    ignored when more than half of it lies in a crowd of its class, and false otherwise.

    Args:
        labels: The image's labels.
        truth: Its true instances.
        ious: ``overlaps`` of both: float64 (labels, instances).
        min_iou: A match needs more than this.
    """
    flags = np.full(len(labels), FALSE, np.int64)
    matched, partners = np.zeros(len(labels)), np.full(len(labels), -1, np.int64)
    crowd = np.array([instance.iscrowd for instance in truth], bool)
    classes = np.array([instance.category_id for instance in truth], np.int64)
    free = ~crowd
    for place in sorted(range(len(labels)), key=lambda n: -labels[n].score):
        own = classes == labels[place].category_id
        usable = np.where(free & own, ious[place], -1.0)
        if usable.max(initial=-1.0) > min_iou:
            partners[place] = usable.argmax()
            free[partners[place]] = False
            flags[place], matched[place] = TRUE, usable.max()
        elif ious[place][crowd & own].max(initial=0.0) > MIN_IN_CROWD:
            flags[place] = IGNORED
    return Matches(flags, matched, partners)


def overlaps(
    labels: Sequence[Label], truth: Sequence[Instance], size: tuple[int, int]
) -> np.ndarray:
    """Mask IoU of labels and true instances; for a crowd, the share of the label that lies in it.

    Args:
        labels: An image's labels.
        truth: Its true instances.
        size: The image's height and width in pixels.

    Returns:
        float64 (labels, instances).
    """
    if not labels or not truth:
        return np.zeros((len(labels), len(truth)))
    ours = as_coco_rles([label.rle for label in labels], *size)
    theirs = as_coco_rles([instance.rle for instance in truth], *size)
    return np.asarray(mask_api.iou(ours, theirs, [int(i.iscrowd) for i in truth]))
