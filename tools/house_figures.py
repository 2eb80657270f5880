"""Print the figures of docs/architecture.md: files and lines of each room, folders, functions.

    python tools/house_figures.py [PACKAGE]

A function's lines are those from ``def`` to its end, its docstring among them. Each import
statement inside a function counts as one.
"""

from __future__ import annotations

import ast
import statistics
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from house_rooms import PACKAGE, ROOMS, room_of

MOST_FILES = 25
"""The goal for the largest folder."""

Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True, slots=True)
class Source:
    """A source file of the package.

    Attributes:
        path: Below the package.
        lines: Its lines.
        functions: Lines of each of its functions and methods, by dotted name.
        late_own: Statements inside its functions that import the package's own modules.
        late_others: Statements inside its functions that import others.
    """

    path: Path
    lines: int
    functions: dict[str, int]
    late_own: int
    late_others: int

    @property
    def room(self) -> str:
        """The room it is in; empty for the package's own ``__init__``."""
        top = self.path.parts[0].removesuffix(".py")
        return "" if top == "__init__" else room_of(top)


def read_package(package: Path = PACKAGE) -> list[Source]:
    """Read all source files of a package, sorted by path."""
    return [_read(path, package) for path in sorted(package.rglob("*.py"))]


def _read(path: Path, package: Path) -> Source:
    text = path.read_text(encoding="utf-8")
    tree = ast.parse(text)
    functions = {name: _length(node) for name, node in _functions(tree, "")}
    late = list(_late_imports(tree))
    own = sum(name.split(".")[0] in (package.name, "") for name in late)
    lines = len(text.splitlines())
    return Source(path.relative_to(package), lines, functions, own, len(late) - own)


def _length(node: Function) -> int:
    return (node.end_lineno or node.lineno) - node.lineno + 1


def _functions(node: ast.AST, prefix: str) -> Iterator[tuple[str, Function]]:
    """All functions below a node with their dotted names, those inside other functions too."""
    for child in ast.iter_child_nodes(node):
        name = prefix
        if isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            name = f"{prefix}.{child.name}".lstrip(".")
        if isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield name, child
        yield from _functions(child, name)


def _late_imports(node: ast.AST, inside: bool = False) -> Iterator[str]:
    """The modules that import statements inside functions name; empty for a relative import."""
    for child in ast.iter_child_nodes(node):
        if inside and isinstance(child, ast.Import):
            yield child.names[0].name
        elif inside and isinstance(child, ast.ImportFrom):
            yield "" if child.level else str(child.module)
        is_function = isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef))
        yield from _late_imports(child, inside or is_function)


def room_table(sources: Sequence[Source]) -> str:
    """Files and lines of each room, as a Markdown table."""
    files = Counter(source.room for source in sources)
    lines: Counter[str] = Counter()
    for source in sources:
        lines[source.room] += source.lines
    rows = [(f"`{room}`", files[room], lines[room]) for room in ROOMS]
    rows.append(("all", len(sources), sum(lines.values())))
    return _table(("room", "files", "lines"), rows)


def figure_table(sources: Sequence[Source]) -> str:
    """The largest folder, the functions and the late imports, as a Markdown table."""
    folders = Counter(source.path.parent.as_posix() for source in sources)
    folder, files = max(folders.items(), key=lambda item: (item[1], item[0]))
    functions = {f"{s.path.as_posix()}: {n}": k for s in sources for n, k in s.functions.items()}
    longest = max(functions, key=lambda name: functions[name])
    own, others = (sum(getattr(s, name) for s in sources) for name in ("late_own", "late_others"))
    rows = [
        ("files in the largest folder", files, f"`{folder}`; goal: {MOST_FILES} at most"),
        ("functions", len(functions), ""),
        ("lines of a function, median", f"{statistics.median(functions.values()):g}", ""),
        ("lines of the longest function", functions[longest], f"`{longest}`"),
        ("imports inside functions, of the package's own modules", own, ""),
        ("imports inside functions, of others", others, ""),
    ]
    return _table(("figure", "value", "where"), rows)


def _table(head: Sequence[object], rows: Sequence[Sequence[object]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def main() -> None:
    """Print both tables."""
    sources = read_package(Path(sys.argv[1]) if len(sys.argv) > 1 else PACKAGE)
    print(room_table(sources), figure_table(sources), sep="\n\n")


if __name__ == "__main__":
    main()
