"""Rows of ``predictions`` on their way to rows of ``refined``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from s4m_pipeline.artifacts.decision import Decision
from s4m_pipeline.refinement.instances import RefinedMask, TeacherInstance, teacher_mask
from s4m_pipeline.refinement.reasons import Cause
from s4m_pipeline.refinement.soft_masks import decode_soft_mask

Row = dict[str, Any]


def teacher_instance(row: Mapping[str, Any], is_neighbour: bool = True) -> TeacherInstance:
    """A row of ``predictions`` as refinement takes it."""
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


def unrefined(row: Mapping[str, Any], cause: Cause) -> Row:
    """A row of ``refined`` of a prediction that becomes no label and was not refined."""
    bbox = tuple(row["bbox"])
    return refined(row, teacher_mask(row["mask_rle"], bbox, row["area"], Decision.DROPPED, cause))


def refined(row: Mapping[str, Any], mask: RefinedMask) -> Row:
    """A row of ``refined``: a prediction with the mask that was decided on."""
    return {**row, "teacher_mask_rle": row["mask_rle"], **mask.columns()}


def segmented(row: Mapping[str, Any], mask: RefinedMask) -> Row:
    """A row of ``segmented``: what refinement made of a prediction by itself."""
    return {name: row[name] for name in ("image_id", "instance_id")} | mask.columns()
