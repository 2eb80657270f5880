"""What a picture looks like to a teacher: the views that ``pseudo_label.views`` may list.

It stands on the ground floor because the configuration checks views by it.
`models.labeller` makes them of pictures.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from pydantic import BeforeValidator

IMAGE = "image"
FLIP = "flip"
LEAST_SCALE, MOST_SCALE = 0.25, 4.0
MOST_VIEWS = 16
_EXPECTED = f"a list of views, such as [{IMAGE}, {FLIP}, 1.35, {FLIP} 1.35]"
_WORDS = re.compile(rf"(?:(?P<flip>{FLIP})(?: +|$))?(?P<scale>[0-9]+(?:\.[0-9]*)?|\.[0-9]+)?")


@dataclass(frozen=True, slots=True, order=True)
class View:
    """A way of showing a picture to a network.

    Attributes:
        scale: Times the scale at which the network is tested.
        flip: Whether left and right change places.
    """

    scale: float = 1.0
    flip: bool = False

    def __str__(self) -> str:
        words = [FLIP] * self.flip + [f"{self.scale:g}"] * (self.scale != 1)
        return " ".join(words) or IMAGE

    @classmethod
    def of(cls, word: Any) -> View:
        """Read one as a run's file writes it.

        Raises:
            ValueError: It is no view, or of a scale that is none for a picture.
        """
        if word == IMAGE:
            return cls()
        found = _WORDS.fullmatch(str(word).strip())
        if isinstance(word, bool) or found is None or not str(word).strip():
            raise ValueError(f"{str(word)!r} is no view; expected {_EXPECTED}")
        scale = float(f"{float(found['scale'] or 1):g}")
        if not LEAST_SCALE <= scale <= MOST_SCALE:
            raise ValueError(
                f"the scale of view {str(word)!r} is not from {LEAST_SCALE:g} to {MOST_SCALE:g}"
            )
        return cls(scale, found["flip"] is not None)


def read_views(words: Iterable[str]) -> tuple[View, ...]:
    """Views as settings hold them, which are checked."""
    return tuple(View.of(word) for word in words)


def view_words() -> BeforeValidator:
    """A check for a setting that lists views; it is brought to one order and spelling."""

    def check(value: Any) -> Any:
        if not isinstance(value, (list, tuple)):
            raise ValueError(f"expected {_EXPECTED}")
        views = [View.of(word) for word in value]
        twice = [view for place, view in enumerate(views) if view in views[:place]]
        if twice:
            raise ValueError(f"lists view '{twice[0]}' twice")
        if View() not in views:
            raise ValueError(f"has no '{IMAGE}', the view on whose cells the others are laid")
        if len(views) > MOST_VIEWS:
            raise ValueError(f"has {len(views)} views; {MOST_VIEWS} are the most")
        return [str(view) for view in sorted(views, key=lambda view: (view != View(), view))]

    return BeforeValidator(check)
