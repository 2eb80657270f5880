"""Policies by class, size or function, and instances of an image that do not share one."""

from __future__ import annotations

from dataclasses import asdict, fields

import numpy as np
import pytest

from s4m_pipeline.config import RefineSection
from s4m_pipeline.errors import UsageError
from s4m_pipeline.refinement.ask import refine_images
from s4m_pipeline.refinement.instances import TeacherInstance, kept_mask
from s4m_pipeline.refinement.policies import ConflictRules, RefinePolicy, policy_of
from s4m_pipeline.refinement.reasons import Cause, Reason
from s4m_pipeline.stages.refine.settings import settings_of_policy
from tests.segmenter.fakes import PromptedSegmenter, teacher_instance

SIZE = (96, 128)
POINTS = RefinePolicy("points", 2, "fuse", 0.0)
BOX = RefinePolicy("box", 2, "argmax-iou", 0.1, negative_points=1, max_area_ratio=3.0)


def _instances() -> list[list[TeacherInstance]]:
    """Two images of three and two instances, classes 1, 2, 3 and 2, 1."""
    images = []
    for categories in ((1, 2, 3), (2, 1)):
        some = [
            teacher_instance(*SIZE, (8 + 4 * n, 8 + 8 * n), 4 + n, n)
            for n in range(len(categories))
        ]
        for instance, category in zip(some, categories, strict=True):
            instance.category_id = category
        images.append(some)
    return images


def test_each_instance_is_refined_by_its_own_policy() -> None:
    segmenter, instances = PromptedSegmenter(), _instances()
    embeddings = segmenter.encode([np.zeros((*SIZE, 3), np.uint8)] * 2)
    table: dict[int | tuple[int, str], RefinePolicy | None] = {1: POINTS, 2: BOX, 3: None}
    found = refine_images(segmenter, embeddings, instances, table)
    assert segmenter.decodes == 2  # one a policy, over both images
    all_points = refine_images(segmenter, embeddings, instances, POINTS)
    all_box = refine_images(segmenter, embeddings, instances, BOX)
    kept = kept_mask(instances[0][2], Cause.of(Reason.NOT_HELPED))
    assert found == [
        [all_points[0][0], all_box[0][1], kept],
        [all_box[1][0], all_points[1][1]],
    ]
    assert (kept.decision, kept.mask_rle) == ("kept", instances[0][2].mask_rle)
    assert kept.reason == "calibrated: refinement does not help such instances"
    assert kept.reason_code == "not_helped"
    assert (kept.agreement, kept.area_ratio, kept.candidate) == (1, 1, -1)
    by_function = refine_images(
        segmenter, embeddings, instances, lambda instance: table[instance.category_id]
    )
    assert by_function == found


def test_without_a_policy_the_segmenter_is_not_asked() -> None:
    segmenter, instances = PromptedSegmenter(), _instances()
    embeddings = segmenter.encode([np.zeros((*SIZE, 3), np.uint8)] * 2)
    found = refine_images(segmenter, embeddings, instances, lambda instance: None)
    assert segmenter.decodes == 0
    assert [len(masks) for masks in found] == [3, 2]
    assert {mask.decision for masks in found for mask in masks} == {"kept"}


def test_class_and_size_go_before_class() -> None:
    choose = policy_of({1: POINTS, (1, "small"): None, (2, "large"): BOX})
    instance = teacher_instance(*SIZE, (8, 8), 4)
    found = {}
    for category, area in ((1, 100), (1, 2000), (2, 10_000)):
        instance.category_id, instance.area = category, area
        found[category, area] = choose(instance)
    assert found == {(1, 100): None, (1, 2000): POINTS, (2, 10_000): BOX}
    instance.area = 100
    with pytest.raises(UsageError, match="no refinement policy is known for category 2"):
        choose(instance)


def test_unknown_space_and_gate_are_refused() -> None:
    with pytest.raises(UsageError, match=r"unknown refine\.fuse_space 'odds'"):
        RefinePolicy("points", 3, "fuse", 0.3, fuse_space="odds")
    with pytest.raises(UsageError, match=r"unknown refine\.gate 'shut'"):
        RefinePolicy("points", 3, "fuse", 0.3, gate="shut")


@pytest.mark.parametrize("weights", [(1.0,), (1.0, 2.0, 3.0), (0.0, 0.0)])
def test_weights_that_are_not_one_for_each_prompt_are_refused(weights: tuple[float, ...]) -> None:
    with pytest.raises(UsageError, match=r"fuse_prompt_weights .* must be 2 numbers"):
        RefinePolicy("points", 3, "fuse", 0.3, fuse_prompts=("box",), fuse_prompt_weights=weights)


def test_defaults_are_those_of_the_runs_file_and_no_key_is_unread() -> None:
    section = RefineSection()
    policy = RefinePolicy(section.policy, section.points, section.candidate, section.min_agreement)
    settings = {**settings_of_policy(policy), **asdict(ConflictRules())}
    stages_own = {"min_score": section.min_score}  # which predictions are prompted at all
    lists = {"fuse_policies": [], "fuse_prompt_weights": []}
    assert {**settings, **stages_own, **lists} == section.model_dump()
    both = {f.name for f in fields(RefinePolicy)} & {f.name for f in fields(ConflictRules)}
    assert both == {"min_agreement"}  # the gate, again where a mask was cut


def test_a_list_of_prompts_makes_the_same_policy() -> None:
    listed = RefinePolicy("points", 3, "fuse", 0.3, fuse_prompts=["box"])  # type: ignore[arg-type]
    assert listed == RefinePolicy("points", 3, "fuse", 0.3, fuse_prompts=("box",))
    assert hash(listed)
    assert listed.all_prompts == ("points", "box")
    assert RefinePolicy("points", 3, "single", 0.3, fuse_prompts=("box",)).all_prompts == (
        "points",
    )
