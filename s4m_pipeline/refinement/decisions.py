"""Where the final mask is chosen.

`decide` makes a new mask of the segmenter's answers and takes it, unless the gate refuses it: then
the teacher's mask is kept, or the instance dropped. `choice` says which candidate a mask is made
of, `fusion` how it is fused with the teacher's, and `conflicts` settles what the masks of one image
take from each other afterwards.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from s4m_pipeline.artifacts.decision import Decision
from s4m_pipeline.devices.transfers import HostCopy
from s4m_pipeline.refinement.choice import segmenter_mask
from s4m_pipeline.refinement.fusion import fused_mask
from s4m_pipeline.refinement.instances import RefinedMask, TeacherInstance
from s4m_pipeline.refinement.policies import RefinePolicy
from s4m_pipeline.refinement.reasons import Cause, Reason, compared
from s4m_pipeline.refinement.rle import bbox_area, iou
from s4m_pipeline.segmenter.base import Frame


@dataclass(frozen=True, slots=True)
class Answers:
    """What was taken of the answers to one kind of prompt for the N instances of one image.

    Attributes:
        logits: float32 (N, 1, 4h, 4w), the candidate taken of each.
        scores: float32 (N, C), the segmenter's own estimate of each candidate's IoU.
        picks: int64 (N,), which candidate was taken.
    """

    logits: HostCopy
    scores: HostCopy
    picks: HostCopy


def decide(
    instances: Sequence[TeacherInstance],
    frame: Frame,
    answers: Sequence[Answers],
    image_size: int,
    policy: RefinePolicy,
) -> list[RefinedMask]:
    """Make and judge one image's masks from the answers to its prompts.

    Waits for the answers to arrive on the host.

    Args:
        instances: N of the teacher's instances.
        frame: How the image lies in the model's input.
        answers: One entry for each of the policy's prompts.
        image_size: Side of the model's input in pixels.
        policy: Choice and gate.

    Returns:
        N records, in the same order.
    """
    maps = _joined([answer.logits.array() for answer in answers])
    scores = _joined([answer.scores.array() for answer in answers]).tolist()
    picks = answers[0].picks.array().tolist()
    out = []
    for n, instance in enumerate(instances):
        if policy.candidate == "fuse":
            rle, pick = _fuse(maps[n], instance, frame, image_size, policy), -1
        else:
            rle, pick = segmenter_mask(maps[n, 0], frame, image_size), picks[n]
        out.append(_decide(instance, rle, pick, scores[n], frame, policy))
    return out


def _joined(answers: Sequence[np.ndarray]) -> np.ndarray:
    """The answers to several prompts side by side; those to one are not copied."""
    return answers[0] if len(answers) == 1 else np.concatenate(answers, axis=1)


def _fuse(
    maps: np.ndarray,
    instance: TeacherInstance,
    frame: Frame,
    image_size: int,
    policy: RefinePolicy,
) -> bytes:
    weight, threshold, space = policy.fuse_weight, policy.fuse_threshold, policy.fuse_space
    shares = policy.fuse_prompt_weights
    return fused_mask(maps, instance, frame, image_size, weight, threshold, space, shares)


def _decide(
    instance: TeacherInstance,
    rle: bytes,
    pick: int,
    scores: list[float],
    frame: Frame,
    policy: RefinePolicy,
) -> RefinedMask:
    """Take the new mask unless it is empty or strays; else keep the teacher's, or drop both."""
    bbox, area = bbox_area(rle, frame.height, frame.width)
    old_bbox, old_area = bbox_area(instance.mask_rle, frame.height, frame.width)
    agreement = iou(instance.mask_rle, rle, frame.height, frame.width)
    cause = _refused(area, old_area, agreement, policy)
    refused = Decision.KEPT if policy.gate == "keep" else Decision.DROPPED
    return RefinedMask(
        mask_rle=instance.mask_rle if cause else rle,
        bbox=old_bbox if cause else bbox,
        area=old_area if cause else area,
        candidate_ious=scores,
        candidate=-1 if cause else pick,
        agreement=agreement,
        area_ratio=area / max(old_area, 1),
        decision=refused if cause else Decision.REFINED,
        reason_code=cause.code.value if cause else "",
        reason=cause.sentence if cause else "",
    )


def _refused(area: int, old_area: int, agreement: float, policy: RefinePolicy) -> Cause | None:
    """Why the gate does not take a mask; None where it does."""
    if not area:
        return Cause.of(Reason.EMPTY)
    if agreement < policy.min_agreement:
        text = compared("agreement", agreement, "<", policy.min_agreement)
        return Cause.of(Reason.AGREEMENT, compared=text)
    limit, ratio = policy.max_area_ratio, area / max(old_area, 1)
    if limit is not None and ratio > limit:
        return Cause.of(Reason.AREA_RATIO, compared=compared("area ratio", ratio, ">", limit))
    if limit is not None and ratio * limit < 1:
        text = compared("area ratio", ratio, "<", 1 / limit, named=f"1/{limit:g}")
        return Cause.of(Reason.AREA_RATIO, compared=text)
    return None
