"""Reasons of decisions: a code that code reads, and a sentence that people read.

Whatever depends on why a mask was kept or dropped looks at the code. A sentence may be reworded,
and nothing but the words changes.
"""

from __future__ import annotations

import operator
from dataclasses import dataclass
from enum import Enum

MOST_DECIMALS = 17
_HOLDS = {"<": operator.lt, "<=": operator.le, ">": operator.gt}


class Reason(str, Enum):
    """Why a prediction has no label, keeps the teacher's mask, or lost pixels.

    The values stand in the column ``reason_code`` of ``refined`` and ``segmented``; a new meaning
    is a new value.
    """

    SCORE = "score"
    """Dropped: its score is not above its class's threshold."""
    AREA = "area"
    """Dropped: its mask probabilities add up to too little."""
    POLICY_NONE = "policy_none"
    """Kept: the run prompts no segmenter."""
    NOT_HELPED = "not_helped"
    """Kept: by the calibration, refinement makes such instances worse."""
    EMPTY = "empty"
    """The gate: the new mask has no pixel."""
    AGREEMENT = "agreement"
    """The gate: the new mask is too unlike the teacher's."""
    AREA_RATIO = "area_ratio"
    """The gate: the new mask is far larger or smaller than the teacher's."""
    DUPLICATE = "duplicate"
    """Dropped: a higher score of its class has much the same mask."""
    CUT = "cut"
    """A label that lost pixels to higher scores."""
    COVERED = "covered"
    """Dropped: higher scores have all its pixels."""
    REMNANT = "remnant"
    """Dropped: what higher scores left of it is too unlike the teacher's mask."""


GATE = frozenset({Reason.EMPTY, Reason.AGREEMENT, Reason.AREA_RATIO})
"""The reasons for which the gate does not take a new mask."""

SENTENCES: dict[Reason, str] = {
    Reason.SCORE: "{compared}",
    Reason.AREA: "{compared} cells",
    Reason.POLICY_NONE: "policy none",
    Reason.NOT_HELPED: "calibrated: refinement does not help such instances",
    Reason.EMPTY: "the segmenter's mask is empty",
    Reason.AGREEMENT: "{compared}",
    Reason.AREA_RATIO: "{compared}",
    Reason.DUPLICATE: "duplicate of instance {other}: {compared}",
    Reason.CUT: "overlap: {lost} px went to higher scores",
    Reason.COVERED: "overlap: higher scores have all its pixels",
    Reason.REMNANT: "overlap: {lost} px went to higher scores, {compared}",
}
"""What people read. ``compared`` is a text of `compared`, ``lost`` a number of pixels, and
``other`` an instance's number."""


@dataclass(frozen=True, slots=True)
class Cause:
    """A reason with the sentence that tells it for one instance.

    Attributes:
        code: The reason.
        sentence: The same in words, with the instance's numbers.
    """

    code: Reason
    sentence: str

    @classmethod
    def of(cls, code: Reason, **values: object) -> Cause:
        """Make the sentence of a reason.

        Args:
            code: The reason.
            values: What its sentence in `SENTENCES` holds in braces.
        """
        return cls(code, SENTENCES[code].format(**values))


def compared(
    what: str, value: float, sign: str, limit: float, decimals: int = 2, named: str = ""
) -> str:
    """A value and the limit that it was compared with, such as ``agreement 0.12 < 0.3``.

    The value has as many decimals as the comparison needs to be true of the numbers shown.

    Args:
        what: The value's name.
        value: The value.
        sign: How it compares with the limit: <, <= or >.
        limit: The limit.
        decimals: The fewest decimals of the value.
        named: How the limit is written; as a number unless given.
    """
    for places in range(decimals, MOST_DECIMALS):
        left, right = f"{value:.{places}f}", f"{limit:g}"
        if float(right) != limit:
            right = f"{limit:.{places}f}"
        if _HOLDS[sign](float(left), limit if named else float(right)):
            break
    return f"{what} {left} {sign} {named or right}"
