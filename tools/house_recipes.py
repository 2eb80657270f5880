"""The recipes of docs/extending.md: which code goes to which file, and the commands that follow.

Each section of the document is a recipe. A line such as these says where the block below it goes::

    `s4m_pipeline/a.py`, a new file:
    `s4m_pipeline/a.py`, below `a line of it`:
    `s4m_pipeline/a.py`, above `a line of it`:
    `s4m_pipeline/a.py`, in place of `a line of it`:

A block of lines that begin with ``s4m`` holds commands.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from house_rooms import REPOSITORY

EXTENDING = REPOSITORY / "docs" / "extending.md"

NEW, ABOVE, BELOW, INSTEAD = "a new file", "above", "below", "in place of"
_WHERE = re.compile(
    rf"`(?P<path>[^`]+)`, (?:{NEW}|(?P<side>{ABOVE}|{BELOW}|{INSTEAD}) `(?P<line>[^`]+)`):"
)


@dataclass(frozen=True, slots=True)
class Edit:
    """A block of code and where it goes.

    Attributes:
        path: The file, relative to the repository.
        code: The block, with a line end.
        side: `NEW`, or on which side of a line of the file.
        line: That line, without the blanks around it.
    """

    path: str
    code: str
    side: str = NEW
    line: str = ""

    def apply(self, root: Path) -> None:
        """Lay the code into a copy of the repository.

        Raises:
            ValueError: The new file is there already, or the line is not in the file exactly once.
        """
        path = root / self.path
        if self.side == NEW:
            if path.exists():
                raise ValueError(f"{self.path} is no new file")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(self.code, encoding="utf-8")
            return
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
        places = [n for n, line in enumerate(lines) if line.strip() == self.line]
        if len(places) != 1:
            raise ValueError(f"{self.path} has {len(places)} lines {self.line!r}")
        start = places[0] + (self.side == BELOW)
        lines[start : start + (self.side == INSTEAD)] = [self.code]
        path.write_text("".join(lines), encoding="utf-8")


@dataclass(frozen=True, slots=True)
class Recipe:
    """A section of the document.

    Attributes:
        name: Its heading, without the backquotes.
        edits: Its code, in order.
        commands: The arguments of each ``s4m`` command that shows what comes of it.
    """

    name: str
    edits: tuple[Edit, ...]
    commands: tuple[tuple[str, ...], ...]

    @property
    def files(self) -> list[str]:
        """The files that it touches, each once."""
        return list(dict.fromkeys(edit.path for edit in self.edits))


def read_recipes(document: Path = EXTENDING) -> dict[str, Recipe]:
    """All recipes of the document, by name."""
    text = document.read_text(encoding="utf-8")
    sections = re.split(r"^## (.+)\n", text, flags=re.MULTILINE)[1:]
    recipes = {}
    for heading, body in zip(sections[::2], sections[1::2], strict=True):
        name = heading.replace("`", "")
        recipes[name] = Recipe(name, tuple(_edits(body)), tuple(_commands(body)))
    return recipes


def _blocks(body: str) -> Iterator[tuple[str, str, str]]:
    """The language of each block of a section, the block, and the last line of text above it."""
    above, language = "", None
    block: list[str] = []
    for line in body.splitlines(keepends=True):
        if language is None and line.startswith("```"):
            language, block = line[3:].strip(), []
        elif language is None:
            above = line.strip() or above
        elif line.startswith("```"):
            yield language, "".join(block), above
            language = None
        else:
            block.append(line)


def _edits(body: str) -> Iterator[Edit]:
    for language, code, above in _blocks(body):
        if language != "python":
            continue
        told = _WHERE.fullmatch(above)
        if told is None:
            raise ValueError(f"no file is named above the code that begins: {code[:60]!r}")
        yield Edit(told["path"], code, told["side"] or NEW, told["line"] or "")


def _commands(body: str) -> Iterator[tuple[str, ...]]:
    for language, block, _ in _blocks(body):
        for line in block.splitlines() if not language else ():
            program, *arguments = shlex.split(line, comments=True)
            if program != "s4m":
                raise ValueError(f"no command of s4m: {line}")
            yield tuple(arguments)
