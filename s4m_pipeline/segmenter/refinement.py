"""Refinement: a teacher's instances in, sharp masks out, with the decision for each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from s4m_pipeline.segmenter.base import Candidates, Embeddings, Frame, Segmenter
from s4m_pipeline.segmenter.choice import choose, fused_mask, segmenter_mask, wants_multimask
from s4m_pipeline.segmenter.instances import RefinedMask, TeacherInstance
from s4m_pipeline.segmenter.prompts import build_prompts, teacher_frame_logits
from s4m_pipeline.segmenter.rle import bbox_area, iou

__all__ = ["RefinePolicy", "RefinedMask", "TeacherInstance", "refine_images"]


@dataclass(frozen=True, slots=True)
class RefinePolicy:
    """How instances are refined.

    Attributes:
        policy: What prompts the segmenter: points, box, box+mask or box+points.
        points: How many points an instance, where points are used.
        candidate: What becomes the mask: argmax-iou, single, closest or fuse.
        min_agreement: The teacher's mask is kept where its IoU with the new one is below this.
    """

    policy: str
    points: int
    candidate: str
    min_agreement: float


def refine_images(
    segmenter: Segmenter,
    embeddings: Embeddings,
    instances: Sequence[Sequence[TeacherInstance]],
    policy: RefinePolicy,
) -> list[list[RefinedMask]]:
    """Refine the instances of a batch of encoded images.

    Args:
        segmenter: The segmenter that encoded them.
        embeddings: Of B images.
        instances: B entries, each the teacher's instances of that image, perhaps none.
        policy: Prompts, choice and gate.

    Returns:
        B entries, one record for each instance, in the same order.

    Raises:
        UsageError: The policy names what does not exist, or wants more points than are stored.
        ValueError: There are not as many entries as images.
    """
    if len(instances) != len(embeddings.frames):
        raise ValueError(f"{len(instances)} entries for {len(embeddings.frames)} images")
    multimask = wants_multimask(policy.candidate)
    size = 4 * embeddings.image.shape[-1]
    teacher = [
        teacher_frame_logits(some, frame, segmenter.image_size, size)
        for some, frame in zip(instances, embeddings.frames, strict=True)
    ]
    prompts = [
        build_prompts(some, policy.policy, policy.points, logits)
        for some, logits in zip(instances, teacher, strict=True)
    ]
    answers = segmenter.decode(embeddings, prompts, multimask)
    return [
        _refine_image(some, frame, answer, logits, segmenter.image_size, policy)
        for some, frame, answer, logits in zip(
            instances, embeddings.frames, answers, teacher, strict=True
        )
    ]


def _refine_image(
    instances: Sequence[TeacherInstance],
    frame: Frame,
    candidates: Candidates,
    teacher_logits: Tensor,
    image_size: int,
    policy: RefinePolicy,
) -> list[RefinedMask]:
    if not instances:
        return []
    picks = choose(candidates, policy.candidate, teacher_logits)
    rows = torch.arange(len(instances), device=picks.device)
    chosen = candidates.logits[rows, picks].float().cpu().numpy()
    ious = candidates.ious.float().cpu().tolist()
    out = []
    for instance, logits, scores, pick in zip(instances, chosen, ious, picks.tolist(), strict=True):
        if policy.candidate == "fuse":
            rle, pick = fused_mask(logits, instance, frame, image_size), -1
        else:
            rle = segmenter_mask(logits, frame, image_size)
        out.append(_decide(instance, rle, pick, scores, frame, policy.min_agreement))
    return out


def _decide(
    instance: TeacherInstance,
    rle: bytes,
    pick: int,
    scores: list[float],
    frame: Frame,
    min_agreement: float,
) -> RefinedMask:
    """Take the new mask, or keep the teacher's where the new one is empty or strays."""
    bbox, area = bbox_area(rle, frame.height, frame.width)
    old_bbox, old_area = bbox_area(instance.mask_rle, frame.height, frame.width)
    agreement = iou(instance.mask_rle, rle, frame.height, frame.width)
    reason = ""
    if not area:
        reason = "the segmenter's mask is empty"
    elif agreement < min_agreement:
        reason = f"agreement {agreement:.2f} < {min_agreement:g}"
    kept = bool(reason)
    return RefinedMask(
        mask_rle=instance.mask_rle if kept else rle,
        bbox=old_bbox if kept else bbox,
        area=old_area if kept else area,
        candidate_ious=scores,
        candidate=-1 if kept else pick,
        agreement=agreement,
        area_ratio=area / max(old_area, 1),
        decision="kept" if kept else "refined",
        reason=reason,
    )
