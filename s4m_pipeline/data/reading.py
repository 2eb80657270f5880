"""How the pictures of a set are read. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from s4m_pipeline.config_data import MOST_MEGAPIXELS
from s4m_pipeline.data.levels import Levels


@dataclass(frozen=True, slots=True)
class Reading:
    """How the pictures of a set are read.

    Attributes:
        levels: Of pictures of more than 8 bits; None where the set has none.
        upright: Whether pictures are turned as their EXIF orientation says, or taken as stored.
        megapixels: What a picture may have; larger ones are refused before they are decoded.
    """

    levels: Levels | None = None
    upright: bool = True
    megapixels: int = MOST_MEGAPIXELS

    def plain(self) -> dict[str, Any]:
        """As a dataset's config holds it; `from_plain` reads it again."""
        levels = None if self.levels is None else self.levels.plain()
        return {"levels": levels, "upright": self.upright, "megapixels": self.megapixels}

    @classmethod
    def from_plain(cls, value: Mapping[str, Any]) -> Reading:
        """The rule that `plain` wrote.

        Raises:
            UsageError: The value is no such thing.
        """
        levels = Levels.from_plain(value.get("levels"))
        megapixels = int(value.get("megapixels", MOST_MEGAPIXELS))
        return cls(levels, bool(value.get("upright", True)), megapixels)


PLAIN = Reading()
"""For sets without pictures of more than 8 bits, which are turned upright."""
