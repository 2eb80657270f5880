"""Conflicts between an image's final masks: duplicates of one object, pixels claimed twice."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from s4m_pipeline.artifacts.decision import Decision
from s4m_pipeline.refinement.instances import RefinedMask, TeacherInstance
from s4m_pipeline.refinement.policies import ConflictRules
from s4m_pipeline.refinement.reasons import Cause, Reason, compared
from s4m_pipeline.refinement.rle import (
    bbox_area,
    difference,
    iou,
    merge,
    pairwise_containment,
    pairwise_iou,
)


def settle_conflicts(
    instances: Sequence[TeacherInstance],
    masks: Sequence[RefinedMask],
    height: int,
    width: int,
    rules: ConflictRules,
) -> list[RefinedMask]:
    """Drop duplicates among an image's masks, then give each pixel of an overlap to one mask.

    Of equal scores the lower instance number goes first. A mask that is dropped, here or before,
    neither makes others duplicates nor claims pixels.

    Args:
        instances: N instances of the image.
        masks: What refinement made of each.
        height: The image's height in pixels.
        width: The image's width in pixels.
        rules: What is settled.

    Returns:
        N records. Those dropped hold the teacher's mask and say why. A mask that lost pixels says
        how many, and has the box, area and agreement of what is left.
    """
    settled = list(masks)
    ranks = sorted(
        range(len(settled)), key=lambda n: (-instances[n].score, instances[n].instance_id)
    )
    standing = [n for n in ranks if settled[n].decision != Decision.DROPPED]
    if min(rules.duplicate_iou, rules.duplicate_containment) < 1:
        for category in dict.fromkeys(instances[n].category_id for n in standing):
            members = [n for n in standing if instances[n].category_id == category]
            _drop_duplicates(instances, settled, members, height, width, rules)
    if rules.overlaps == "score":
        standing = [n for n in standing if settled[n].decision != Decision.DROPPED]
        _part(instances, settled, standing, height, width, rules.min_agreement)
    return settled


def dropped(instance: TeacherInstance, mask: RefinedMask, cause: Cause) -> RefinedMask:
    """A record that becomes no label: the teacher's mask, with the figures of the one it lost."""
    return replace(
        mask,
        mask_rle=instance.mask_rle,
        bbox=instance.bbox,
        area=instance.area,
        candidate=-1,
        decision=Decision.DROPPED,
        reason_code=cause.code.value,
        reason=cause.sentence,
    )


def _drop_duplicates(
    instances: Sequence[TeacherInstance],
    settled: list[RefinedMask],
    members: Sequence[int],
    height: int,
    width: int,
    rules: ConflictRules,
) -> None:
    """Go through members by falling score, and drop each that is like one that stands."""
    limit = rules.duplicate_containment
    rles = [settled[n].mask_rle for n in members]
    ious = pairwise_iou(rles, height, width)
    shares = pairwise_containment(rles, height, width)
    standing: list[int] = []
    for at, n in enumerate(members):
        cause = None
        for other in standing:
            text = ""
            if ious[at, other] > rules.duplicate_iou:
                text = compared("IoU", ious[at, other], ">", rules.duplicate_iou)
            elif shares[at, other] > limit:
                text = compared("containment", shares[at, other], ">", limit)
            if text:
                number = instances[members[other]].instance_id
                cause = Cause.of(Reason.DUPLICATE, other=number, compared=text)
                break
        if cause:
            settled[n] = dropped(instances[n], settled[n], cause)
        else:
            standing.append(at)


def _part(
    instances: Sequence[TeacherInstance],
    settled: list[RefinedMask],
    standing: Sequence[int],
    height: int,
    width: int,
    min_agreement: float,
) -> None:
    """Give each pixel to the first that claims it."""
    claimed: bytes | None = None
    for n in standing:
        instance, mask = instances[n], settled[n]
        if claimed is None:
            claimed = mask.mask_rle
            continue
        rest = difference(mask.mask_rle, claimed, height, width)
        bbox, area = bbox_area(rest, height, width)
        if not area:
            empty = replace(mask, agreement=0.0, area_ratio=0.0)
            settled[n] = dropped(instance, empty, Cause.of(Reason.COVERED))
            continue
        if area < mask.area:
            lost, agreement = mask.area - area, iou(instance.mask_rle, rest, height, width)
            cut = Cause.of(Reason.CUT, lost=lost)
            left = replace(
                mask,
                mask_rle=rest,
                bbox=bbox,
                area=area,
                agreement=agreement,
                area_ratio=area / max(instance.area, 1),
                reason_code=mask.reason_code or cut.code.value,
                reason=f"{mask.reason}; {cut.sentence}" if mask.reason else cut.sentence,
            )
            if agreement < min_agreement:
                text = compared("agreement", agreement, "<", min_agreement)
                cause = Cause.of(Reason.REMNANT, lost=lost, compared=text)
                settled[n] = dropped(instance, left, cause)
                continue
            settled[n] = left
        claimed = merge(claimed, rest, height, width)
