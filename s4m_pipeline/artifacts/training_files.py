"""The names of the files that a training leaves in its artifact."""

from __future__ import annotations

CHECKPOINT = "checkpoint.pth"
"""The trained network: weights and all that is needed to run them."""
LOG = "log.jsonl"
"""Losses and validation figures, as JSON lines."""
