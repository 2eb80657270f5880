"""Rules that rename tensors between two layouts of the same network, in either direction."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from torch import Tensor

Change = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Rule:
    """One family of tensors under its two names.

    In a name, ``{}`` stands for a number and ``*`` for the rest of the name; both names have the
    same of them in the same order.

    Attributes:
        theirs: Name in the other layout.
        ours: Name in MMDetection.
        to_ours: Change of the values on the way to MMDetection; None for none.
        to_theirs: Its inverse.
    """

    theirs: str
    ours: str
    to_ours: Change | None = None
    to_theirs: Change | None = None


@dataclass
class Renamed:
    """What came out of a renaming.

    Attributes:
        tensors: The tensors under their other names.
        unmatched: Names that no rule has, or whose other name another tensor has taken.
    """

    tensors: dict[str, Tensor] = field(default_factory=dict)
    unmatched: list[str] = field(default_factory=list)


def to_ours(tensors: Mapping[str, Tensor], rules: Sequence[Rule]) -> Renamed:
    """Rename from the other layout to MMDetection's."""
    return _rename(tensors, [(rule.theirs, rule.ours, rule.to_ours) for rule in rules])


def to_theirs(tensors: Mapping[str, Tensor], rules: Sequence[Rule]) -> Renamed:
    """Rename from MMDetection's layout to the other one."""
    return _rename(tensors, [(rule.ours, rule.theirs, rule.to_theirs) for rule in rules])


def below(theirs: str, ours: str, rules: Iterable[Rule]) -> list[Rule]:
    """The same rules with a prefix before each of the two names."""
    return [
        Rule(theirs + rule.theirs, ours + rule.ours, rule.to_ours, rule.to_theirs) for rule in rules
    ]


def _rename(
    tensors: Mapping[str, Tensor], rules: Sequence[tuple[str, str, Change | None]]
) -> Renamed:
    """Give each tensor the name, and the change, of the first rule that knows its name."""
    known = [(_pattern(source), target, change) for source, target, change in rules]
    renamed = Renamed()
    for name, value in tensors.items():
        for pattern, target, change in known:
            match = pattern.fullmatch(name)
            other = _fill(target, match.groups()) if match else None
            if other is not None and other not in renamed.tensors:
                renamed.tensors[other] = value if change is None else change(value)
                break
        else:
            renamed.unmatched.append(name)
    return renamed


def _pattern(template: str) -> re.Pattern[str]:
    escaped = re.escape(template)
    return re.compile(escaped.replace(r"\{\}", r"(\d+)").replace(r"\*", r"(.+)"))


def _fill(template: str, parts: Iterable[str]) -> str:
    return template.replace("*", "{}").format(*parts)
