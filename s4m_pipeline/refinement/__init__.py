"""What becomes of a teacher's mask: prompts, candidates, fusion, decision, conflicts.

The door is `decisions`: there the final mask is chosen.
"""
