"""How the pictures of a set are read. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from s4m_pipeline.data.levels import Levels


@dataclass(frozen=True, slots=True)
class Reading:
    """How the pictures of a set are read.

    Attributes:
        levels: Of pictures of more than 8 bits; None where the set has none.
        upright: Whether pictures are turned as their EXIF orientation says, or taken as stored.
    """

    levels: Levels | None = None
    upright: bool = True

    def plain(self) -> dict[str, Any]:
        """As a dataset's config holds it; `from_plain` reads it again."""
        levels = None if self.levels is None else self.levels.plain()
        return {"levels": levels, "upright": self.upright}

    @classmethod
    def from_plain(cls, value: Mapping[str, Any]) -> Reading:
        """The rule that `plain` wrote.

        Raises:
            UsageError: The value is no such thing.
        """
        return cls(Levels.from_plain(value.get("levels")), bool(value.get("upright", True)))


PLAIN = Reading()
"""For sets without pictures of more than 8 bits, which are turned upright."""
