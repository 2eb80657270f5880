"""Refinement: a teacher's instances in, sharp masks out, with the decision for each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from s4m_pipeline.segmenter.base import Candidates, Embeddings, Frame, Prompts, Segmenter
from s4m_pipeline.segmenter.choice import choose, segmenter_mask, wants_multimask
from s4m_pipeline.segmenter.fusion import fused_mask
from s4m_pipeline.segmenter.instances import RefinedMask, TeacherInstance, kept_mask
from s4m_pipeline.segmenter.negatives import negative_points
from s4m_pipeline.segmenter.policies import NOT_HELPED, PolicyChoice, RefinePolicy, policy_of
from s4m_pipeline.segmenter.prompts import build_prompts, teacher_frame_logits
from s4m_pipeline.segmenter.rle import bbox_area, iou

__all__ = ["RefinePolicy", "RefinedMask", "TeacherInstance", "refine_images"]

MASK_PROMPT_LIMIT = 32.0  # SAM 2's predictor clamps the logits that it prompts with again


@dataclass(slots=True)
class _Taken:
    """What was taken of the segmenter's answers for the N instances of one image."""

    logits: np.ndarray  # float32 (N, K, 4h, 4w), one map a prompt policy
    scores: list[list[float]]  # (N, candidates)
    picks: list[int]  # (N,)


def refine_images(
    segmenter: Segmenter,
    embeddings: Embeddings,
    instances: Sequence[Sequence[TeacherInstance]],
    policy: PolicyChoice,
) -> list[list[RefinedMask]]:
    """Refine the instances of a batch of encoded images.

    Args:
        segmenter: The segmenter that encoded them.
        embeddings: Of B images.
        instances: B entries, each the teacher's instances of that image, perhaps none.
        policy: Prompts, choice and gate: for all, by class (and size), or by a function. An
            instance without a policy keeps the teacher's mask.

    Returns:
        B entries, one record for each instance, in the same order. Instances of one image know
        of one another only as neighbours; `conflicts.settle_conflicts` settles the rest.

    Raises:
        UsageError: A policy names what does not exist, or wants more points than are stored.
        ValueError: There are not as many entries as images.
    """
    if len(instances) != len(embeddings.frames):
        raise ValueError(f"{len(instances)} entries for {len(embeddings.frames)} images")
    choice = policy_of(policy)
    policies = [[choice(instance) for instance in some] for some in instances]
    out = [[kept_mask(instance, NOT_HELPED) for instance in some] for some in instances]
    for rules in dict.fromkeys(p for some in policies for p in some if p is not None):
        rows = [[n for n, p in enumerate(some) if p == rules] for some in policies]
        found = _refine_group(segmenter, embeddings, instances, rows, rules)
        for image, numbers in enumerate(rows):
            for n, mask in zip(numbers, found[image], strict=True):
                out[image][n] = mask
    return out


def _refine_group(
    segmenter: Segmenter,
    embeddings: Embeddings,
    instances: Sequence[Sequence[TeacherInstance]],
    rows: Sequence[Sequence[int]],
    policy: RefinePolicy,
) -> list[list[RefinedMask]]:
    """Refine those instances of each image that share a policy."""
    frames = embeddings.frames
    size = 4 * embeddings.image.shape[-1]
    asks = policy.candidate == "closest" or "box+mask" in policy.prompts
    groups = [[some[n] for n in numbers] for some, numbers in zip(instances, rows, strict=True)]
    teacher = [
        teacher_frame_logits(group, frame, segmenter.image_size, size) if asks else None
        for group, frame in zip(groups, frames, strict=True)
    ]
    negatives = [
        _negatives(some, numbers, policy.negative_points, frame)
        for some, numbers, frame in zip(instances, rows, frames, strict=True)
    ]
    taken: dict[str, list[_Taken]] = {}
    for kind in dict.fromkeys(policy.prompts):
        prompts = [
            build_prompts(group, kind, policy.points, logits, points)
            for group, logits, points in zip(groups, teacher, negatives, strict=True)
        ]
        taken[kind] = _ask(segmenter, embeddings, prompts, teacher, policy)
    return [
        _decide_all(group, frame, [taken[k][n] for k in policy.prompts], segmenter, policy)
        for n, (group, frame) in enumerate(zip(groups, frames, strict=True))
    ]


def _negatives(
    instances: Sequence[TeacherInstance], rows: Sequence[int], count: int, frame: Frame
) -> tuple[np.ndarray, np.ndarray] | None:
    if not count:
        return None
    points, labels = negative_points(instances, count, frame.height, frame.width)
    return points[list(rows)], labels[list(rows)]


def _ask(
    segmenter: Segmenter,
    embeddings: Embeddings,
    prompts: Sequence[Prompts],
    teacher: Sequence[Tensor | None],
    policy: RefinePolicy,
) -> list[_Taken]:
    """Prompt once, or once more with the mask taken first."""
    answers = segmenter.decode(embeddings, prompts, wants_multimask(policy.candidate))
    picks = [
        choose(answer, policy.candidate, logits)
        for answer, logits in zip(answers, teacher, strict=True)
    ]
    if policy.second_pass:
        limit = MASK_PROMPT_LIMIT
        again = [
            replace(prompt, masks=_picked(answer, pick).clamp(-limit, limit))
            for prompt, answer, pick in zip(prompts, answers, picks, strict=True)
        ]
        answers = segmenter.decode(embeddings, again, False)
        picks = [torch.zeros_like(pick) for pick in picks]
    return [
        _Taken(
            _picked(answer, pick).float().cpu().numpy(),
            answer.ious.float().cpu().tolist(),
            pick.tolist(),
        )
        for answer, pick in zip(answers, picks, strict=True)
    ]


def _picked(candidates: Candidates, picks: Tensor) -> Tensor:
    """The candidates taken: float (N, 1, 4h, 4w)."""
    return candidates.logits[torch.arange(len(picks), device=picks.device), picks][:, None]


def _decide_all(
    instances: Sequence[TeacherInstance],
    frame: Frame,
    taken: Sequence[_Taken],
    segmenter: Segmenter,
    policy: RefinePolicy,
) -> list[RefinedMask]:
    """Make and judge one image's masks from the answers to each prompt policy."""
    maps = np.concatenate([answer.logits for answer in taken], axis=1)
    out = []
    for n, instance in enumerate(instances):
        if policy.candidate == "fuse":
            rle, pick = _fuse(maps[n], instance, frame, segmenter.image_size, policy), -1
        else:
            rle, pick = segmenter_mask(maps[n, 0], frame, segmenter.image_size), taken[0].picks[n]
        scores = [score for answer in taken for score in answer.scores[n]]
        out.append(_decide(instance, rle, pick, scores, frame, policy))
    return out


def _fuse(
    maps: np.ndarray,
    instance: TeacherInstance,
    frame: Frame,
    image_size: int,
    policy: RefinePolicy,
) -> bytes:
    weight, threshold, space = policy.fuse_weight, policy.fuse_threshold, policy.fuse_space
    return fused_mask(maps, instance, frame, image_size, weight, threshold, space)


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
    reason = _fault(area, old_area, agreement, policy)
    refused = "kept" if policy.gate == "keep" else "dropped"
    return RefinedMask(
        mask_rle=instance.mask_rle if reason else rle,
        bbox=old_bbox if reason else bbox,
        area=old_area if reason else area,
        candidate_ious=scores,
        candidate=-1 if reason else pick,
        agreement=agreement,
        area_ratio=area / max(old_area, 1),
        decision=refused if reason else "refined",
        reason=reason,
    )


def _fault(area: int, old_area: int, agreement: float, policy: RefinePolicy) -> str:
    """Why a mask is not taken; empty where it is."""
    if not area:
        return "the segmenter's mask is empty"
    if agreement < policy.min_agreement:
        return f"agreement {agreement:.2f} < {policy.min_agreement:g}"
    limit, ratio = policy.max_area_ratio, area / max(old_area, 1)
    if limit is not None and ratio > limit:
        return f"area ratio {ratio:.2f} > {limit:g}"
    if limit is not None and ratio * limit < 1:
        return f"area ratio {ratio:.2f} < 1/{limit:g}"
    return ""
