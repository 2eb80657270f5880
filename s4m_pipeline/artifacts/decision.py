"""What became of a mask: the values of the column ``decision``. Light."""

from __future__ import annotations

from enum import Enum


class Decision(str, Enum):
    """What became of a teacher's mask, as ``refined``, ``segmented`` and ``calibration`` say."""

    REFINED = "refined"
    """The new mask is the label."""
    KEPT = "kept"
    """The teacher's mask is the label."""
    DROPPED = "dropped"
    """There is no label."""

    def __str__(self) -> str:
        """The value, as in tables, pages and messages (Python 3.10 has no ``StrEnum``)."""
        return self.value
