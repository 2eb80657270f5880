"""What becomes of a teacher's mask: prompts, candidates, fusion, decision, conflicts.

The door is :mod:`s4m_pipeline.refinement.decisions`: there the final mask is chosen.
"""
