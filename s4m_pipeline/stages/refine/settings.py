"""From the section ``refine`` of a run's file to the policies and rules of the segmenter's room."""

from __future__ import annotations

from dataclasses import fields

from s4m_pipeline.config import RefineSection
from s4m_pipeline.refinement.conflicts import ConflictRules
from s4m_pipeline.refinement.policies import RefinePolicy


def refine_policy(section: RefineSection) -> RefinePolicy:
    """The one policy that a section names, for all classes."""
    return RefinePolicy(**{f.name: getattr(section, f.name) for f in fields(RefinePolicy)})


def conflict_rules(section: RefineSection) -> ConflictRules:
    """What a section settles between the masks of an image."""
    return ConflictRules(**{f.name: getattr(section, f.name) for f in fields(ConflictRules)})
