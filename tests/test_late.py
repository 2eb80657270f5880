"""Names that are imported late: each names something, and no two files need each other by them."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import grimp
import pytest

import s4m_pipeline
from s4m_pipeline.late import load

PACKAGE = Path(s4m_pipeline.__file__).parent
NAME = re.compile(r"s4m_pipeline(\.\w+)+:\w+")
TABLES = {"engine.registry", "execution.engines", "segmenter.build"}
"""Tables of what can be chosen: what stands in a row may well use the table."""


def _names() -> Iterator[tuple[str, str]]:
    """Each module below the package, with each name that stands in it."""
    for path in sorted(PACKAGE.rglob("*.py")):
        module = ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
        for node in ast.walk(ast.parse(path.read_text())):
            value = getattr(node, "value", None) if isinstance(node, ast.Constant) else None
            if isinstance(value, str) and NAME.fullmatch(value):
                yield module, value


def _circle(edges: dict[str, set[str]]) -> list[str]:
    try:
        TopologicalSorter(edges).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


NAMES = sorted(set(_names()))


@pytest.mark.parametrize("name", sorted({name for _, name in NAMES}))
def test_every_name_can_be_imported(name: str) -> None:
    assert load(name) is not None


def test_only_a_light_file_and_what_does_its_work_know_each_other() -> None:
    named: dict[str, set[str]] = {}
    for module, name in NAMES:
        if module not in TABLES:
            named.setdefault(module, set()).add(
                name.partition(":")[0].removeprefix("s4m_pipeline.")
            )
    graph = grimp.build_graph("s4m_pipeline")
    edges: dict[str, set[str]] = {}
    for full in graph.modules:
        module = full.removeprefix("s4m_pipeline.")
        imported = {
            other.removeprefix("s4m_pipeline.")
            for other in graph.find_modules_directly_imported_by(full)
        }
        # a worker may import the light file that names it
        own = {light for light in imported if module in named.get(light, ())}
        edges[module] = (imported - own) | named.get(module, set())
    assert _circle(edges) == []


def test_a_circle_is_found() -> None:
    assert _circle({"a": {"b"}, "b": {"c"}, "c": {"a"}})
    assert not _circle({"a": {"b", "c"}, "b": {"c"}, "c": set()})
