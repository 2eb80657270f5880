"""The names of the files that a training leaves in its artifact."""

from __future__ import annotations

from pathlib import PurePosixPath

CHECKPOINT = "checkpoint.pth"
"""The trained network: weights and all that is needed to run them."""
LAST = "last.pth"
"""The network at the end of its training, where ``keep: best`` made another the checkpoint."""
STATE = "state"
"""The folder of what a training that goes on with other labels goes on from."""
LOG = "log.jsonl"
"""Losses and validation figures, as JSON lines."""
PAGE = "labels.html"
"""What a student learned from, for people."""


def is_for_people(path: str) -> bool:
    """Whether a file of an artifact is looked at by people and read by no stage."""
    return PurePosixPath(path).name in (LOG, PAGE)
