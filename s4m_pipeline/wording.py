"""Numbers and names in sentences."""

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


def escaped(name: str) -> str:
    """A name, or a text with names in it, as any file and terminal can hold it.

    Names of files are bytes. Those that are not UTF-8 are lone surrogates in Python's text
    (PEP 383), which no UTF-8 can hold: the byte F6 becomes ``\\udcf6``. All else stays.
    """
    return name.encode("utf-8", "backslashreplace").decode("utf-8")
