"""The policies that a calibration compares."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from s4m_pipeline.config import RefineSection, RunConfig
from s4m_pipeline.config_prompts import PROMPTS, PromptParts
from s4m_pipeline.refinement.policies import VIEWS, RefinePolicy
from s4m_pipeline.stages.refine.settings import refine_policy

S4M_RULE = "S4M's rule"
S4M_POINTS = 3
FALLBACK = "points"
_IN_VIEW = {
    "image": "whole images",
    "tiles": "tiles",
    "windows": "windows",
    "auto": "windows where small",
}
MEAN_OF_FOUR = ("box", "box+mask")
"""Fused beside points in the mean of four (docs/method.md, "Pseudo-label refinement").

The teacher's mask is the fourth, with a share of a quarter.
"""


def compared_candidates(parts: PromptParts) -> tuple[str, ...]:
    """The candidates that are compared with some prompts, whatever ``refine.candidate`` is.

    ``closest`` chooses among three candidates, which differ most for prompts that have points.
    """
    return ("single", "closest", "fuse") if parts.points else ("single", "fuse")


def calibration_policies(config: RunConfig) -> dict[str, RefinePolicy]:
    """The policies compared, by name.

    Prompts and the choice of a mask vary. All other settings (gate, number of points, weight of the
    fusion ...) are those of the section ``refine``, except that S4M's own rule has three points and
    no gate, and the mean of four has equal weights. The section's candidate and ``fuse_policies``
    are compared with every prompt, so the configured policy is among them. The other views are
    compared with every prompt and the section's candidate. The list does not depend on
    ``refine.policy``, which is not in a calibration's fingerprint.
    """
    section = config.refine
    plain = replace(refine_policy(section), fuse_prompts=(), fuse_prompt_weights=())
    pairs = [(name, some) for name in PROMPTS for some in compared_candidates(PROMPTS[name])]
    pairs += [(name, section.candidate) for name in PROMPTS]
    policies = {
        f"{prompts}, {candidate}": replace(plain, prompts=prompts, candidate=candidate)
        for prompts, candidate in dict.fromkeys(pairs)
    }
    policies[S4M_RULE] = replace(
        plain,
        prompts="points",
        points=min(S4M_POINTS, config.pseudo_label.points),
        candidate="argmax-iou",
        min_agreement=0.0,
        max_area_ratio=None,
        negative_points=0,
        second_pass=False,
    )
    policies["mean of points, box, box+mask and teacher"] = replace(
        plain, prompts="points", candidate="fuse", fuse_prompts=MEAN_OF_FOUR, fuse_weight=0.25
    )
    if section.fuse_policies and section.candidate == "fuse":
        for prompts in PROMPTS:
            policies[_name(prompts, section)] = replace(refine_policy(section), prompts=prompts)
    return policies | _other_views(section, policies)


def _other_views(
    section: RefineSection, policies: Mapping[str, RefinePolicy]
) -> dict[str, RefinePolicy]:
    """Every prompt with the section's candidate, in the views that the section does not name."""
    named = {prompts: _name(prompts, section) for prompts in PROMPTS}
    return {
        f"{name}, {_IN_VIEW[view]}": replace(policies[name], view=view)
        for view in VIEWS
        if view != section.view
        for name in named.values()
    }


def fallback_policy(section: RefineSection) -> str:
    """The name of the policy that ``refine.policy: auto`` takes after too few measurements."""
    return _name(FALLBACK, section)


def _name(prompts: str, section: RefineSection) -> str:
    mixed = section.fuse_policies if section.candidate == "fuse" else ()
    others = f" with {' and '.join(mixed)}" if mixed else ""
    return f"{prompts}{others}, {section.candidate}"
