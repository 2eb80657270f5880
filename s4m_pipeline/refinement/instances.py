"""What goes into refinement and what comes out: one record an instance."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np


@dataclass(slots=True)
class TeacherInstance:
    """One prediction of the teacher.

    Attributes:
        instance_id: Its number within the image.
        category_id: COCO category.
        score: Class score of the teacher.
        bbox: x, y, width, height of its mask in pixels.
        area: Pixels of its mask.
        points: float32 (K, 2), prompt points, x and y in pixels, in the order drawn.
        soft_mask: uint8 (h, w), its probability times 255, cropped.
        soft_mask_box: x, y, width, height of the crop in cells.
        stride: Original pixels per cell.
        mask_rle: COCO's compressed counts of its mask.
        is_neighbour: Whether others' negative points may be taken from it.
    """

    instance_id: int
    category_id: int
    score: float
    bbox: tuple[float, float, float, float]
    area: int
    points: np.ndarray
    soft_mask: np.ndarray
    soft_mask_box: tuple[int, int, int, int]
    stride: float
    mask_rle: bytes
    is_neighbour: bool = True


@dataclass(slots=True)
class RefinedMask:
    """What became of one prediction.

    Attributes:
        mask_rle: COCO's compressed counts of the final mask.
        bbox: x, y, width, height of the final mask in pixels.
        area: Pixels of the final mask.
        candidate_ious: The segmenter's own scores of its candidates; where several prompts were
            fused, one for each.
        candidate: Which candidate was taken; -1 where masks were fused or none was taken.
        agreement: IoU of the teacher's mask and the one chosen, kept or not.
        area_ratio: Area of the mask chosen over that of the teacher's (at least one pixel).
        decision: "refined", "kept" (the teacher's mask stays) or "dropped" (no label; the
            teacher's mask is held).
        reason: Why it was kept or dropped, and what other instances took from it; else empty.
    """

    mask_rle: bytes
    bbox: tuple[float, float, float, float]
    area: int
    candidate_ious: list[float]
    candidate: int
    agreement: float
    area_ratio: float
    decision: str
    reason: str


def kept_mask(instance: TeacherInstance, reason: str) -> RefinedMask:
    """The teacher's mask as the final one, where the segmenter was not asked."""
    return RefinedMask(
        mask_rle=instance.mask_rle,
        bbox=instance.bbox,
        area=instance.area,
        candidate_ious=[],
        candidate=-1,
        agreement=1.0,
        area_ratio=1.0,
        decision="kept",
        reason=reason,
    )
