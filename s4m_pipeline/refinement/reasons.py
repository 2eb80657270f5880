"""Reasons of decisions, in words that the numbers in them bear out."""

from __future__ import annotations

import operator

MOST_DECIMALS = 17
_HOLDS = {"<": operator.lt, "<=": operator.le, ">": operator.gt}


def compared(
    what: str, value: float, sign: str, limit: float, decimals: int = 2, named: str = ""
) -> str:
    """What a value was held against, such as ``agreement 0.12 < 0.3``.

    Args:
        what: The value's name.
        value: The value.
        sign: How it lies to the limit: <, <= or >.
        limit: The limit.
        decimals: Decimals of the value; more where it would not lie so without them.
        named: How the limit is written; as a number unless given.
    """
    for places in range(decimals, MOST_DECIMALS):
        left, right = f"{value:.{places}f}", f"{limit:g}"
        if float(right) != limit:
            right = f"{limit:.{places}f}"
        if _HOLDS[sign](float(left), limit if named else float(right)):
            break
    return f"{what} {left} {sign} {named or right}"
