"""Words of files that steer a terminal: every way to the terminal escapes them."""

from __future__ import annotations

import ast
import io
import json
import sys
import time
from html.parser import HTMLParser
from pathlib import Path

import pytest
from PIL import Image
from rich.console import Console

import s4m_pipeline
from s4m_pipeline.cli import main
from s4m_pipeline.console.printable import echo
from s4m_pipeline.console.progress_bar import progress_bar
from s4m_pipeline.review.charts import Series, bars
from s4m_pipeline.review.page import Extras, Gallery, GalleryRow, write_page
from s4m_pipeline.review.table import Table, is_figure
from s4m_pipeline.review.terminal import print_table
from tests.small_sets import coco_content, write_images, write_json

PACKAGE = Path(s4m_pipeline.__file__).parent
STEERS = "\x1b]0;owned\x07\x1b[31mred\x9b2J\rback\x08"
TAGS = "\"'><script>alert(1)</script><img src=x onerror=alert(1)>&lt;b]]>"


def test_commands_print_through_one_door() -> None:
    for path in sorted([*PACKAGE.glob("commands/*.py"), *PACKAGE.glob("workflow/*.py")]):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call):
                called = ast.unparse(node.func)
                assert called not in ("print", "typer.echo", "click.echo", "rich.print"), path


def clean(text: str) -> bool:
    return not any(letter in text for letter in "\x1b\x07\x9b\r\x08")


def test_the_door_escapes(capsys: pytest.CaptureFixture[str]) -> None:
    echo(STEERS)
    echo(STEERS, err=True)
    out, err = capsys.readouterr()
    assert out == err
    assert clean(out)
    assert "\\x1b[31mred\\x9b2J\\rback" in out


@pytest.mark.parametrize("terminal", [False, True])
def test_tables_and_bars_escape(terminal: bool) -> None:
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=terminal, color_system=None, width=200)
    print_table(Table(STEERS, [STEERS, "b"], [[STEERS, 1.0], ["a\nb", 2.0]], STEERS), console)
    with progress_bar(console, f"{STEERS}[red]", 1, 0, "images") as advance:
        advance(1, f"{STEERS}[/nothing]")
    text = stream.getvalue()
    assert "\\x1b[31mred" in text
    assert "\x1b[31m" not in text
    assert "\x1b]0" not in text
    assert not any(letter in text for letter in "\x07\x9b\x08")
    assert "a\\nb" in text


def test_what_data_commands_find_in_a_file_is_escaped(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_images(tmp_path / "images")
    content = coco_content()
    content["categories"].append({"id": 9, "name": STEERS})
    content["images"][0]["file_name"] = f"{STEERS}.png"
    labels = str(write_json(tmp_path / "labels.json", content))
    sets = ["--annotations", labels, "--images", str(tmp_path / "images")]
    for words in (
        ["check", *sets],
        ["clean", *sets, "--out", str(tmp_path / "clean.json")],
        ["split", *sets, "--percent", "50", "--out", str(tmp_path / f"out{STEERS[:9]}")],
        ["check", *sets, "--model", "mask2former_demo", "--verbose"],
        ["check", "--annotations", f"{labels}{STEERS}", "--images", str(tmp_path), "--verbose"],
    ):
        with pytest.raises(SystemExit):
            main(["data", *words])
        out, err = capsys.readouterr()
        assert clean(out + err), words
        assert "\\x1b" in out + err, words


def test_a_figure_is_told_in_time() -> None:
    start = time.monotonic()
    assert not is_figure("1" + " " * 200_000 + "x")
    assert is_figure("1,234.5 ± 0.02")
    assert time.monotonic() - start < 1


class _Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: set[str] = set()
        self.attributes: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.add(tag)
        self.attributes |= {name for name, _ in attrs}


def test_words_of_files_make_no_tags_on_a_page(tmp_path: Path) -> None:
    def page(words: str) -> _Tags:
        picture = Image.new("RGB", (4, 4))
        series = [Series(words, [1.0, 2.0]), Series(f"{words}2", [2.0, 1.0])]
        rows = [GalleryRow(words, [picture], [words])]
        gallery = Gallery(words, [words], rows, words, [(words, (1, 2, 3))])
        charts = [bars(words, [words, words], series, words)]
        write_page(
            tmp_path / "page.html",
            words,
            words,
            [Table(words, [words, "b"], [[words, 1.0]], words)],
            [gallery],
            Extras([(words, words)], charts, [words, (words, words)], words, words),
        )
        tags = _Tags()
        text = (tmp_path / "page.html").read_text()
        assert "default-src 'none'" in text.split("</head>")[0]
        tags.feed(text)
        return tags

    honest, hostile = page("honest"), page(TAGS)
    assert hostile.found == honest.found
    assert hostile.attributes == honest.attributes
    assert "script" not in hostile.found


def test_json_is_plain_letters(capsys: pytest.CaptureFixture[str]) -> None:
    echo(json.dumps({"name": STEERS}))
    assert json.loads(capsys.readouterr().out) == {"name": STEERS}
    assert sys.stdout is not None
