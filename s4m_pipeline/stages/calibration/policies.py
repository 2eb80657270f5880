"""The policies that a calibration compares, and what its choice means for each class and size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

from s4m_pipeline.config import RefineSection, RunConfig
from s4m_pipeline.refinement.policies import RefinePolicy
from s4m_pipeline.refinement.sizes import SIZES
from s4m_pipeline.stages.refine.settings import refine_policy

S4M_RULE = "S4M's rule"
S4M_POINTS = 3
FALLBACK = "points"
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
"""Prompts and candidate of each policy that is compared."""
MEAN_OF_FOUR = ("box", "box+mask")
"""Fused beside points in the mean of four (docs/method.md, "Pseudo-label refinement").

The teacher's mask is the fourth, with a share of a quarter.
"""


def calibration_policies(config: RunConfig) -> dict[str, RefinePolicy]:
    """The policies compared, by name.

    Prompts and choice of mask vary; all else (gate, number of points, fusion's weight ...) is the
    section's, but S4M's own rule has three points and no gate, and the mean of four equal weights.
    The section's candidate and its ``fuse_policies`` are compared with every prompt. So the
    section's own policy is among them, and the list is the same whatever ``refine.policy`` says:
    that is in no fingerprint of a calibration.
    """
    section = config.refine
    plain = replace(refine_policy(section), fuse_policies=(), fuse_prompt_weights=())
    pairs = dict.fromkeys([*COMPARED, *((prompt, section.candidate) for prompt in PROMPTS)])
    found = {
        f"{prompt}, {candidate}": replace(plain, policy=prompt, candidate=candidate)
        for prompt, candidate in pairs
    }
    found[S4M_RULE] = replace(
        plain,
        policy="points",
        points=min(S4M_POINTS, config.pseudo_label.points),
        candidate="argmax-iou",
        min_agreement=0.0,
        max_area_ratio=None,
        negative_points=0,
        second_pass=False,
    )
    four = replace(
        plain, policy="points", candidate="fuse", fuse_policies=MEAN_OF_FOUR, fuse_weight=0.25
    )
    found["mean of points, box, box+mask and teacher"] = four
    if section.fuse_policies and section.candidate == "fuse":
        for prompt in PROMPTS:
            found[_name(prompt, section)] = replace(refine_policy(section), policy=prompt)
    return found


def fallback_policy(section: RefineSection) -> str:
    """The name of what ``refine.policy: auto`` takes where too few instances were measured."""
    return _name(FALLBACK, section)


def _name(prompt: str, section: RefineSection) -> str:
    mixed = section.fuse_policies if section.candidate == "fuse" else ()
    others = f" with {' and '.join(mixed)}" if mixed else ""
    return f"{prompt}{others}, {section.candidate}"


def policy_as_json(policy: RefinePolicy) -> dict[str, Any]:
    """A policy as JSON values."""
    return {key: list(v) if isinstance(v, tuple) else v for key, v in asdict(policy).items()}


def policies_by_class(
    choice: dict[str, Any], categories: Sequence[int]
) -> dict[int | tuple[int, str], RefinePolicy | None]:
    """The policy of each class and size, None where the teacher's mask is to stay.

    Args:
        choice: A calibration's metrics (``calibration_choice.choice_of``).
        categories: All category ids.
    """
    off = choice["off"]
    policy = RefinePolicy(**choice["policy"])
    classes = set(off["classes"])
    return {
        (key, size): None if key in classes or size in off["sizes"] else policy
        for key in categories
        for size in SIZES
    }
