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
    """

    levels: Levels | None = None

    def plain(self) -> dict[str, Any]:
        """As a dataset's config holds it; `from_plain` reads it again."""
        return {"levels": None if self.levels is None else self.levels.plain()}

    @classmethod
    def from_plain(cls, value: Mapping[str, Any]) -> Reading:
        """The rule that `plain` wrote.

        Raises:
            UsageError: The value is no such thing.
        """
        return cls(Levels.from_plain(value.get("levels")))


PLAIN = Reading()
"""For sets without pictures of more than 8 bits."""
