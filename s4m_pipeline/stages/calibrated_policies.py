"""The policies that a calibration compares, and what its choice means for each class and size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from s4m_pipeline.config import RefineSection
from s4m_pipeline.data.calibration import SIZES
from s4m_pipeline.segmenter.policies import RefinePolicy
from s4m_pipeline.stages.refine_policies import refine_policy

CONFIGURED = "configured"
S4M_RULE = "points, argmax-iou"
COMPARED = (
    ("points", "argmax-iou"),
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
MEAN_OF_FOUR = "points, box and box+mask, fuse"


def calibration_policies(section: RefineSection) -> dict[str, RefinePolicy]:
    """The policies compared, by name.

    Prompts and choice of mask vary; all else (gate, number of points, fusion's weight ...) is the
    section's, but S4M's own rule has no gate. Where the section's own policy is none of them, it is
    one more, ``configured``.
    """
    base = refine_policy(section)
    plain = replace(base, fuse_policies=())
    found = {
        f"{policy}, {candidate}": replace(plain, policy=policy, candidate=candidate)
        for policy, candidate in COMPARED
    }
    found[S4M_RULE] = replace(
        found[S4M_RULE],
        min_agreement=0.0,
        max_area_ratio=None,
        negative_points=0,
        second_pass=False,
    )
    found[MEAN_OF_FOUR] = replace(
        plain, policy="points", candidate="fuse", fuse_policies=("box", "box+mask")
    )
    if section.policy not in ("auto", "none") and base not in found.values():
        found[CONFIGURED] = base
    return found


def policies_by_class(
    choice: dict[str, Any], categories: Sequence[int]
) -> dict[int | tuple[int, str], RefinePolicy | None]:
    """The policy of each class and size, None where the teacher's mask is to stay.

    Args:
        choice: A calibration's metrics (``calibrate.choice_of``).
        categories: All category ids.
    """
    off = choice["off"]
    policy = RefinePolicy(**choice["policy"])
    classes = set(off["classes"])
    return {
        (key, size): None if off["everywhere"] or key in classes or size in off["sizes"] else policy
        for key in categories
        for size in SIZES
    }
