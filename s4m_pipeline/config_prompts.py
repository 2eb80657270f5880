"""What can prompt the segmenter: the one table of the names that ``refine.policy`` may take.

It stands on the ground floor because the configuration checks names by it. `refinement.prompts`
makes the prompts of a row, and `stages.calibration.policies` compares all rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pydantic import BeforeValidator
from pydantic_core import PydanticKnownError


@dataclass(frozen=True, slots=True)
class PromptParts:
    """What of a teacher's instance is shown to the segmenter.

    Attributes:
        points: Points drawn from its soft mask, ``refine.points`` of them.
        box: The box around its mask.
        mask: Its soft mask, as logits in the segmenter's frame.
    """

    points: bool = False
    box: bool = False
    mask: bool = False


PROMPTS: dict[str, PromptParts] = {
    "points": PromptParts(points=True),
    "box": PromptParts(box=True),
    "box+mask": PromptParts(box=True, mask=True),
    "box+points": PromptParts(box=True, points=True),
}
"""What is prompted, by name. A new row needs no other edit: it can be configured, is compared by
``s4m calibrate``, and is listed where a name is unknown."""


def prompt_name(*others: str) -> BeforeValidator:
    """A check for a setting that is a name in the table as it then stands, or one of some others.

    A fault is pydantic's own for a literal, so that it is reported like that of any other choice.
    """

    def check(value: Any) -> Any:
        names = [*PROMPTS, *others]
        if value in names:
            return value
        *most, last = (repr(name) for name in names)
        raise PydanticKnownError("literal_error", {"expected": f"{', '.join(most)} or {last}"})

    return BeforeValidator(check)
