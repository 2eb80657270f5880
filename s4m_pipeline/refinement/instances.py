"""What goes into refinement and what comes out: one record an instance."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from s4m_pipeline.artifacts.decision import Decision
from s4m_pipeline.refinement.reasons import Cause

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
    """What became of one prediction: the columns that refinement adds to it, by their names.

    Attributes:
        mask_rle: COCO's compressed counts of the final mask.
        bbox: x, y, width, height of the final mask in pixels.
        area: Pixels of the final mask.
        candidate_ious: The segmenter's own scores of its candidates; where several prompts were
            fused, one for each.
        candidate: Which candidate was taken; -1 where masks were fused or none was taken.
        agreement: IoU of the teacher's mask and the one chosen, kept or not.
        area_ratio: Area of the mask chosen over that of the teacher's (at least one pixel).
        decision: What became of it. One that is dropped holds the teacher's mask.
        reason_code: Why it was kept or dropped, or that it lost pixels: a value of
            `reasons.Reason`; else empty. Of a kept mask that lost pixels, why it was kept.
        reason: The same in words, and what other instances took from it; else empty.
    """

    mask_rle: bytes
    bbox: tuple[float, float, float, float]
    area: int
    candidate_ious: list[float]
    candidate: int
    agreement: float
    area_ratio: float
    decision: Decision
    reason_code: str
    reason: str

    def columns(self) -> dict[str, Any]:
        """Its values by the names of the columns that they stand in."""
        return {field.name: getattr(self, field.name) for field in fields(self)}


def teacher_mask(
    mask_rle: bytes,
    bbox: tuple[float, float, float, float],
    area: int,
    decision: Decision,
    cause: Cause,
) -> RefinedMask:
    """The teacher's mask as the final one, where the segmenter was not asked.

    Args:
        mask_rle: COCO's compressed counts of it.
        bbox: Its x, y, width, height in pixels.
        area: Its pixels.
        decision: That it is kept or dropped.
        cause: Why.
    """
    return RefinedMask(
        mask_rle=mask_rle,
        bbox=bbox,
        area=area,
        candidate_ious=[],
        candidate=-1,
        agreement=1.0,
        area_ratio=1.0,
        decision=decision,
        reason_code=cause.code.value,
        reason=cause.sentence,
    )


def kept_mask(instance: TeacherInstance, cause: Cause) -> RefinedMask:
    """The teacher's mask of an instance that becomes a label as it is."""
    return teacher_mask(instance.mask_rle, instance.bbox, instance.area, Decision.KEPT, cause)
