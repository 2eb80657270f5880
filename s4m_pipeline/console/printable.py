"""Text that may come from a file, as a terminal may show it."""

from __future__ import annotations

import unicodedata

_NOT_SHOWN = ("Cc", "Cs", "Zl", "Zp")
"""Unicode's kinds of what is escaped: controls, lone surrogates, separators of lines."""


def printable(text: str) -> str:
    """Text in which no character moves the cursor, colours the terminal or cannot be shown.

    Lines stay lines; every other control character is written as Python writes it, ``\\x1b``.
    """
    if text.isprintable():
        return text
    return "\n".join("".join(map(_shown, line)) for line in text.split("\n"))


def _shown(character: str) -> str:
    if unicodedata.category(character) in _NOT_SHOWN:
        return character.encode("unicode_escape").decode()
    return character
