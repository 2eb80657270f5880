"""Numbers in sentences."""

from __future__ import annotations


def counted(count: int, one: str, many: str) -> str:
    """A count with its words: ``counted(2, "image was", "images were")`` is ``2 images were``."""
    return f"{count:,} {one if count == 1 else many}"


def human_bytes(count: float) -> str:
    """Bytes in a unit that reads well."""
    for unit in ("B", "KB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"
