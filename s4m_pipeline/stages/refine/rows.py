"""Rows of ``predictions`` on their way to rows of ``refined``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from s4m_pipeline.refinement.ask import RefinedMask, TeacherInstance

Row = dict[str, Any]


def teacher_instance(row: Mapping[str, Any], is_neighbour: bool = True) -> TeacherInstance:
    """A row of ``predictions`` as the segmenter's room takes it."""
    import numpy as np

    from s4m_pipeline.refinement.ask import TeacherInstance
    from s4m_pipeline.refinement.soft_masks import decode_soft_mask

    box = tuple(row["soft_mask_box"])
    return TeacherInstance(
        instance_id=row["instance_id"],
        category_id=row["category_id"],
        score=row["score"],
        bbox=tuple(row["bbox"]),
        area=row["area"],
        points=np.asarray(row["prompt_points"], dtype=np.float32).reshape(-1, 2),
        soft_mask=decode_soft_mask(row["soft_mask"], box),
        soft_mask_box=box,
        stride=row["soft_mask_stride"],
        mask_rle=row["mask_rle"],
        is_neighbour=is_neighbour,
    )


def unrefined(row: Mapping[str, Any], decision: str, reason: str) -> Row:
    """A row of ``refined`` that holds the teacher's mask."""
    return {
        **row,
        "teacher_mask_rle": row["mask_rle"],
        "candidate_ious": [],
        "candidate": -1,
        "agreement": 1.0,
        "area_ratio": 1.0,
        "decision": decision,
        "reason": reason,
    }


def refined(row: Mapping[str, Any], mask: RefinedMask) -> Row:
    """A row of ``refined`` with the mask that was decided on."""
    return {
        **row,
        "mask_rle": mask.mask_rle,
        "bbox": mask.bbox,
        "area": mask.area,
        "teacher_mask_rle": row["mask_rle"],
        "candidate_ious": mask.candidate_ious,
        "candidate": mask.candidate,
        "agreement": mask.agreement,
        "area_ratio": mask.area_ratio,
        "decision": mask.decision,
        "reason": mask.reason,
    }


def segmented(row: Mapping[str, Any], mask: RefinedMask) -> Row:
    """A row of ``segmented``: what refinement made of a prediction by itself."""
    return {
        "image_id": row["image_id"],
        "instance_id": row["instance_id"],
        "mask_rle": mask.mask_rle,
        "bbox": mask.bbox,
        "area": mask.area,
        "candidate_ious": mask.candidate_ious,
        "candidate": mask.candidate,
        "agreement": mask.agreement,
        "area_ratio": mask.area_ratio,
        "decision": mask.decision,
        "reason": mask.reason,
    }
