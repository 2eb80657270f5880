"""Boundary IoU (Cheng et al., 2021): how well outlines agree, whatever lies inside. No torch.

Of each mask only the band counts that lies within a distance of its outline, 2 % of the image's
diagonal. Distances are counted along rows, columns and diagonals alike (chessboard distance), and
what lies outside the image counts as background, both as in the authors' code.
"""

from __future__ import annotations

import math
from typing import Any

import cv2
import numpy as np
from pycocotools import mask as mask_api

BAND = 0.02
"""The band's width as a share of the image's diagonal."""


def band_width(height: int, width: int) -> int:
    """The band's width in pixels, at least 1, for images of a height and width in pixels."""
    return max(1, round(BAND * math.hypot(height, width)))


def boundary_band(mask: np.ndarray, distance: int) -> np.ndarray:
    """The pixels of a mask that are at most ``distance`` from a pixel outside it.

    Args:
        mask: uint8 or bool (H, W).
        distance: Pixels, 1 for those that touch the outside by a side or corner.

    Returns:
        uint8 (H, W), 1 in the band.
    """
    band = np.zeros(mask.shape, np.uint8)
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if not len(rows):
        return band
    box = (slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1))
    crop = np.ascontiguousarray(mask[box], np.uint8)
    reach = np.ones((2 * distance + 1, 2 * distance + 1), np.uint8)
    inner = cv2.erode(crop, reach, borderType=cv2.BORDER_CONSTANT, borderValue=0)
    band[box] = crop - inner
    return band


def boundary_rle(rle: dict[str, Any]) -> dict[str, Any]:
    """The band of a mask over a whole image, both as COCO's compressed RLE dict."""
    height, width = rle["size"]
    band = boundary_band(mask_api.decode(rle), band_width(height, width))
    encoded: dict[str, Any] = mask_api.encode(np.asfortranarray(band))
    return encoded


class BoundaryIoU:
    """Mixin for COCO's evaluation classes: IoU is the smaller one of mask IoU and boundary IoU.

    Pairs whose mask IoU is below every threshold keep it, since they can no longer match; crowds
    keep the share of the detection that lies in them. ``iouType`` is "segm". Bands are made when
    they are first needed and kept.
    """

    params: Any
    cocoGt: Any  # noqa: N815
    cocoDt: Any  # noqa: N815

    def computeIoU(self, imgId: int, catId: int) -> Any:  # noqa: N802, N803
        """IoU of an image's detections (rows, by falling score) and true instances of a class."""
        ious = np.asarray(super().computeIoU(imgId, catId))  # type: ignore[misc]
        if not ious.size:
            return []
        true = _of(self.cocoGt, imgId, catId)
        detections = _of(self.cocoDt, imgId, catId)
        order = np.argsort([-detection["score"] for detection in detections], kind="mergesort")
        detections = [detections[place] for place in order[: len(ious)]]
        crowd = np.array([bool(instance["iscrowd"]) for instance in true])
        near = (ious >= min(self.params.iouThrs) - 1e-9) & ~crowd
        for row, column in zip(*np.nonzero(near), strict=True):
            bands = [_band(detections[row]), _band(true[column])]
            between = mask_api.iou(bands[:1], bands[1:], [0])[0, 0]
            ious[row, column] = min(ious[row, column], between)
        return ious


def _of(coco: Any, image_id: int, category_id: int) -> list[dict[str, Any]]:
    """An image's annotations of a class, in the order in which they are evaluated."""
    return [a for a in coco.imgToAnns[image_id] if a["category_id"] == category_id]


def _band(annotation: dict[str, Any]) -> dict[str, Any]:
    if "boundary" not in annotation:
        annotation["boundary"] = boundary_rle(annotation["segmentation"])
    band: dict[str, Any] = annotation["boundary"]
    return band
