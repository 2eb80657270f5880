"""The scripts in ``tools/`` that make the figures and the picture of docs/architecture.md."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[1]

EXAMPLE = """
import os


class Thing:
    def short(self):
        import json
        from s4m_pipeline.errors import UsageError

        def inner():
            import re

            return re

        return json, UsageError, inner


def one(): return os
"""


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A package of three files in two rooms."""
    folder = tmp_path / "s4m_pipeline"
    (folder / "stages").mkdir(parents=True)
    (folder / "__init__.py").write_text("")
    (folder / "cli.py").write_text("import os\n\n\ndef main():\n    return os\n")
    (folder / "stages" / "thing.py").write_text(EXAMPLE)
    return folder


def test_figures_of_a_small_package(tool: Callable[[str], ModuleType], package: Path) -> None:
    figures = tool("house_figures")
    sources = figures.read_package(package)
    assert [source.path.as_posix() for source in sources] == [
        "__init__.py",
        "cli.py",
        "stages/thing.py",
    ]
    (thing,) = [source for source in sources if source.room == "stages"]
    assert thing.lines == len(EXAMPLE.splitlines())
    assert thing.functions == {"Thing.short": 10, "Thing.short.inner": 4, "one": 1}
    assert (thing.late_own, thing.late_others) == (1, 2)
    rooms, rest = figures.room_table(sources), figures.figure_table(sources)
    assert "| `cli, commands` | 1 | 5 |" in rooms
    assert f"| `stages` | 1 | {thing.lines} |" in rooms
    assert "| files in the largest folder | 2 | `.`; goal: 25 at most |" in rest
    assert "| lines of a function, median | 3 |" in rest
    assert "| lines of the longest function | 10 | `stages/thing.py: Thing.short` |" in rest
    assert "| imports inside functions, of the package's own modules | 1 |" in rest
    assert "| imports inside functions, of others | 2 |" in rest


def test_the_script_prints_its_tables(
    tool: Callable[[str], ModuleType],
    package: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sys, "argv", ["house_figures.py", str(package)])
    tool("house_figures").main()
    first, second, third = capsys.readouterr().out.split("\n\n")
    assert first.startswith("| room | files | lines |\n| --- | --- | --- |\n")
    assert second.startswith("| figure | value | where |\n| --- | --- | --- |\n")
    assert third.startswith("| to add | files | goal | which |\n| --- | --- | --- | --- |\n")
    assert "| A prompt policy | 1 | 1 | `config_prompts.py` |" in third


def test_the_script_writes_between_a_documents_marks(
    tool: Callable[[str], ModuleType],
    package: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    figures, document = tool("house_figures"), tmp_path / "page.md"
    marked = tool("marked_table")
    begin, end = marked.marks(figures.MARKS)
    document.write_text(f"before\n{begin}\nold\n{end}\nafter\n")
    monkeypatch.setattr(sys, "argv", ["house_figures.py", str(package), "--write", str(document)])
    figures.main()
    told = figures.figures(package)
    assert document.read_text() == f"before\n{begin}\n\n{told}\n\n{end}\nafter\n"
    document.write_text("no marks\n")
    with pytest.raises(ValueError, match="once each"):
        marked.write_between_marks(document, figures.MARKS, told)


def test_the_document_has_what_each_recipe_touches(tool: Callable[[str], ModuleType]) -> None:
    figures, recipes = tool("house_figures"), tool("house_recipes").read_recipes()
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    begin, end = tool("marked_table").marks(figures.MARKS)
    told = text.partition(begin)[2].partition(end)[0]
    assert figures.recipe_table(list(recipes.values())) in told


def test_every_module_is_in_one_room(tool: Callable[[str], ModuleType]) -> None:
    rooms = tool("house_rooms")
    members = [name for names in rooms.ROOMS.values() for name in names]
    inside = {
        path.name.removesuffix(".py")
        for path in rooms.PACKAGE.iterdir()
        if path.suffix == ".py" or (path / "__init__.py").is_file()
    }
    assert sorted(members) == sorted(inside - {"__init__"})
    with pytest.raises(ValueError, match="cellar"):
        rooms.room_of("cellar")


def members_told(document: str) -> list[list[str]]:
    """The modules of each room in the table of docs/architecture.md, a list a row."""
    table = document.partition("| room |")[2].partition("\n\n")[0].splitlines()[2:]
    cells = [line.split("|")[1] for line in table]
    quoted = [re.findall(r"`([a-z_]+)(?:/|\.py)`", cell) for cell in cells]
    return [sorted(names) for names in quoted]


def layers_of(contract: str) -> list[list[str]]:
    """The modules of each layer in pyproject.toml's contract."""
    (layers,) = re.findall(r"^layers = \[\n(.*?)^\]", contract, re.DOTALL | re.MULTILINE)
    return [re.split(r" [:|] ", layer) for layer in re.findall(r'"([^"]+)"', layers)]


def test_the_document_lists_the_rooms_in_their_order(tool: Callable[[str], ModuleType]) -> None:
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    rooms = tool("house_rooms").ROOMS
    assert members_told(text) == [sorted(members) for members in rooms.values()]


def test_the_contract_has_the_same_rooms_in_the_same_order(
    tool: Callable[[str], ModuleType],
) -> None:
    rooms = tool("house_rooms")
    layers = layers_of((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    in_order = [rooms.room_of(name) for layer in layers for name in layer]
    assert list(dict.fromkeys(in_order)) == list(rooms.ROOMS)
    in_contract = sorted(name for layer in layers for name in layer)
    assert in_contract == sorted(name for members in rooms.ROOMS.values() for name in members)


def test_arrows_that_follow_are_left_out(tool: Callable[[str], ModuleType]) -> None:
    pytest.importorskip("grimp")
    picture = tool("house_picture")
    arrows = {("stages", "labels"), ("labels", "data"), ("stages", "data"), ("data", "artifacts")}
    assert picture.without_those_that_follow(arrows) == arrows - {("stages", "data")}
    down, up = picture.split_by_direction({("stages", "data"), ("data", "labels")})
    assert (down, up) == ({("stages", "data")}, {("data", "labels")})


def test_the_picture_shows_the_imports_of_today(tool: Callable[[str], ModuleType]) -> None:
    pytest.importorskip("grimp")
    picture = tool("house_picture")
    text = (ROOT / "docs" / "rooms.svg").read_text(encoding="utf-8")
    shown = set(re.findall(r'class="(\w+)" data-from="([^"]+)" data-to="([^"]+)"', text))
    down, up = picture.drawn_arrows()
    now = {("down", *arrow) for arrow in down} | {("up", *arrow) for arrow in up}
    assert shown == now, "draw it again: python tools/house_picture.py"
    assert list(picture.CAPTIONS) == list(picture.ROOMS)
    assert all(f">{room}</text>" in text for room in picture.ROOMS)
    assert all(f">{caption}</text>" in text for caption in picture.CAPTIONS.values())
    assert len(text) < 200_000


def test_it_draws_the_same_picture_each_time(
    tool: Callable[[str], ModuleType], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("grimp")
    picture, out = tool("house_picture"), tmp_path / "rooms.svg"
    monkeypatch.setattr(sys, "argv", ["house_picture.py", "--out", str(out)])
    picture.main()
    assert out.read_text(encoding="utf-8") == picture.draw()
