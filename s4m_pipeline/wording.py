"""Numbers in sentences."""

from __future__ import annotations


def counted(count: int, one: str, many: str) -> str:
    """A count with its words: ``counted(2, "image was", "images were")`` is ``2 images were``."""
    return f"{count:,} {one if count == 1 else many}"
