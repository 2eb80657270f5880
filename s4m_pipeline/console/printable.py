"""Text that may come from a file, as a terminal may show it."""

from __future__ import annotations

import sys
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


def one_line(text: str) -> str:
    """`printable` for a cell of a table: a line break is escaped as well."""
    return text if text.isprintable() else printable(text).replace("\n", "\\n")


def echo(message: object = "", err: bool = False) -> None:
    """Print a line in which nothing steers the terminal, whatever file its words come from.

    Args:
        message: The text.
        err: Whether to standard error.
    """
    print(printable(str(message)), file=sys.stderr if err else sys.stdout, flush=True)


def _shown(character: str) -> str:
    if unicodedata.category(character) in _NOT_SHOWN:
        return character.encode("unicode_escape").decode()
    return character
