"""The policies that a calibration compares, and what its choice means for each class and size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

from s4m_pipeline.config import RefineSection
from s4m_pipeline.segmenter.policies import RefinePolicy
from s4m_pipeline.stages.refine_policies import refine_policy

S4M_RULE = "S4M's rule"
PROMPTS = ("points", "box", "box+mask", "box+points")
COMPARED = (
    ("points", "single"),
    ("points", "closest"),
    ("points", "fuse"),
    ("box", "single"),
    ("box", "fuse"),
    ("box+mask", "single"),
    ("box+mask", "fuse"),
    ("box+points", "single"),
    ("box+points", "closest"),
    ("box+points", "fuse"),
)
"""Prompt policy and candidate of what is compared; METHOD, section 2."""
MEAN_OF_FOUR = ("box", "box+mask")
"""What is fused beside points in METHOD's mean of four."""


def calibration_policies(section: RefineSection) -> dict[str, RefinePolicy]:
    """The policies compared, by name.

    Prompts and choice of mask vary; all else (gate, number of points, fusion's weight ...) is the
    section's, but S4M's own rule has no gate. The section's candidate and its ``fuse_policies``
    are compared with every prompt. So the section's own policy is among them, and the list is the
    same whatever ``refine.policy`` says.
    """
    plain = replace(refine_policy(section), fuse_policies=())
    pairs = dict.fromkeys([*COMPARED, *((prompt, section.candidate) for prompt in PROMPTS)])
    found = {
        f"{prompt}, {candidate}": replace(plain, policy=prompt, candidate=candidate)
        for prompt, candidate in pairs
    }
    found[S4M_RULE] = replace(
        plain,
        policy="points",
        candidate="argmax-iou",
        min_agreement=0.0,
        max_area_ratio=None,
        negative_points=0,
        second_pass=False,
    )
    mixtures: list[tuple[str, tuple[str, ...]]] = [("points", MEAN_OF_FOUR)]
    if section.fuse_policies and section.candidate == "fuse":
        mixtures += [(prompt, tuple(section.fuse_policies)) for prompt in PROMPTS]
    for prompt, others in mixtures:
        policy = replace(plain, policy=prompt, candidate="fuse", fuse_policies=others)
        found[f"{prompt} with {' and '.join(others)}, fuse"] = policy
    return found


def policy_as_json(policy: RefinePolicy) -> dict[str, Any]:
    """A policy as JSON values."""
    return {**asdict(policy), "fuse_policies": list(policy.fuse_policies)}


def policies_by_class(
    choice: dict[str, Any], categories: Sequence[int]
) -> dict[int | tuple[int, str], RefinePolicy | None]:
    """The policy of each class and size, None where the teacher's mask is to stay.

    Args:
        choice: A calibration's metrics (``calibration_choice.choice_of``).
        categories: All category ids.
    """
    from s4m_pipeline.data.calibration import SIZES  # `s4m status` does without numpy

    off = choice["off"]
    policy = RefinePolicy(**choice["policy"])
    classes = set(off["classes"])
    return {
        (key, size): None if off["everywhere"] or key in classes or size in off["sizes"] else policy
        for key in categories
        for size in SIZES
    }
