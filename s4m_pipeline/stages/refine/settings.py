"""From the section ``refine`` of a run's file to the policies and rules of refinement."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

from s4m_pipeline.config import RefineSection
from s4m_pipeline.object_sizes import SIZES
from s4m_pipeline.refinement.policies import ConflictRules, RefinePolicy

_SETTINGS = {"prompts": "policy", "fuse_prompts": "fuse_policies"}
"""Fields of a policy whose setting has another name; what is prompted is ``refine.policy``."""


def refine_policy(section: RefineSection) -> RefinePolicy:
    """The one policy that a section names, for all classes."""
    return policy_of_settings(dict(section))


def policy_of_settings(settings: Mapping[str, Any]) -> RefinePolicy:
    """The policy of settings by the names that they have in a run's file.

    Settings that are no part of a policy are left out, and those that lack have their default.
    """
    names = {field.name: _SETTINGS.get(field.name, field.name) for field in fields(RefinePolicy)}
    return RefinePolicy(
        **{field: settings[name] for field, name in names.items() if name in settings}
    )


def settings_of_policy(policy: RefinePolicy) -> dict[str, Any]:
    """A policy as the settings of a run's file that make it, in JSON values."""
    values = {field.name: getattr(policy, field.name) for field in fields(policy)}
    return {
        _SETTINGS.get(name, name): list(value) if isinstance(value, tuple) else value
        for name, value in values.items()
    }


def conflict_rules(section: RefineSection) -> ConflictRules:
    """What a section settles between the masks of an image."""
    return ConflictRules(**{f.name: getattr(section, f.name) for f in fields(ConflictRules)})


def policies_by_class(
    choice: dict[str, Any], categories: Sequence[int]
) -> dict[int | tuple[int, str], RefinePolicy | None]:
    """The policy of each class and size, None where the teacher's mask is to stay.

    Args:
        choice: A calibration's metrics (``calibration.choice.choice_of``).
        categories: All category ids.
    """
    off = choice["off"]
    policy = policy_of_settings(choice["policy"])
    classes = set(off["classes"])
    return {
        (key, size): None if key in classes or size in off["sizes"] else policy
        for key in categories
        for size in SIZES
    }
