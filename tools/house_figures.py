"""Print the figures of docs/architecture.md: rooms, folders, functions, and what recipes touch.

    python tools/house_figures.py [PACKAGE] [--write docs/architecture.md]

A function's lines are those from ``def`` to its end, its docstring among them. Each import
statement inside a function counts as one. What a recipe touches is counted in docs/extending.md.
With ``--write`` the tables replace what stands between the document's two marks.
"""

from __future__ import annotations

import argparse
import ast
import statistics
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from house_recipes import Recipe, read_recipes
from house_rooms import PACKAGE, ROOMS, room_of
from marked_table import write_between_marks

MOST_FILES = 25
"""The goal for the largest folder."""
GOALS = {
    "A prompt policy": "1",
    "A segmenter": "2",
    "A stage": "3, and the definitions of tables for one of its own",
    "A format": "2",
    "An engine": "2",
    "A loss": "3",
    "A column of refined": "2",
}
"""The goal for the files of the package that each recipe touches."""
MARKS = "figures"

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


def recipe_table(recipes: Sequence[Recipe]) -> str:
    """How many files of the package each recipe touches, as a Markdown table."""
    rows = [
        (recipe.name, len(recipe.files), GOALS[recipe.name], ", ".join(_named(recipe.files)))
        for recipe in recipes
    ]
    return _table(("to add", "files", "goal", "which"), rows)


def _named(files: Sequence[str]) -> list[str]:
    return [f"`{Path(file).relative_to(PACKAGE.name)}`" for file in files]


def _table(head: Sequence[object], rows: Sequence[Sequence[object]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def figures(package: Path = PACKAGE) -> str:
    """All tables of a package, one below the other."""
    sources = read_package(package)
    recipes = list(read_recipes().values())
    return "\n\n".join((room_table(sources), figure_table(sources), recipe_table(recipes)))


def main() -> None:
    """Print the tables, or write them into a document."""
    parser = argparse.ArgumentParser(description="Count the package's files, lines and functions.")
    parser.add_argument("package", type=Path, nargs="?", default=PACKAGE)
    parser.add_argument("--write", type=Path, metavar="DOCUMENT", help="put them between its marks")
    arguments = parser.parse_args()
    text = figures(arguments.package)
    if arguments.write is None:
        print(text)
        return
    write_between_marks(arguments.write, MARKS, text)
    print(f"wrote {arguments.write}")


if __name__ == "__main__":
    main()
