"""The self-contained page."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageChops

from s4m_pipeline.errors import UsageError
from s4m_pipeline.review.charts import Series, bars, histogram, lines
from s4m_pipeline.review.page import Extras, Gallery, GalleryRow, is_page, page_text, write_page
from s4m_pipeline.review.table import Cell, Table
from tests.review.reading import read_page

EVIL = "<script>alert('x')</script> & \"quoted\" <img src=x onerror=y>"


def picture(width: int, height: int, seed: int = 0) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels).resize((width, height))


def test_every_text_is_escaped() -> None:
    table = Table(EVIL, [EVIL, "figure"], [[EVIL, 1.0]], EVIL, tones={EVIL: 'x" onclick="y'})
    row = GalleryRow(EVIL, [picture(8, 8), None], [EVIL, EVIL])
    gallery = Gallery(EVIL, [EVIL, "b"], [row], EVIL, [(EVIL, (1, 2, 3))])
    series = [Series(EVIL, [1, 2], 1, [0, 1], marks=True), Series(EVIL, [1, 2], 2, [0, 1])]
    figures = [
        histogram(EVIL, [0, 1, 2], series, EVIL, EVIL, EVIL),
        bars(EVIL, [EVIL, "b"], series, EVIL),
        lines(EVIL, series, EVIL, EVIL, EVIL),
    ]
    extras = Extras([(EVIL, EVIL)], figures, [EVIL, (EVIL, EVIL)], EVIL, EVIL)
    text = page_text(EVIL, EVIL, [table], [gallery], extras)
    page = read_page(text)
    assert len(page.named("img")) == 1
    assert EVIL in page.named("img")[0]["alt"]
    assert page.text.count(EVIL) >= 20
    assert EVIL not in text


def test_pictures_decode_with_their_size_and_content(tmp_path: Path) -> None:
    flat = Image.new("RGB", (40, 24), (250, 120, 10))
    noisy = picture(96, 64)
    gallery = Gallery("g", ["image", "truth"], [GalleryRow("one", [flat, noisy], ["", "2 masks"])])
    write_page(tmp_path / "new" / "page.html", "t", "s", [], [gallery])
    page = read_page((tmp_path / "new" / "page.html").read_text(encoding="utf-8"))
    found = page.pictures()
    assert [p.size for p in found] == [(40, 24), (96, 64)]
    assert [(a["width"], a["height"]) for a in page.named("img")] == [("40", "24"), ("96", "64")]
    assert np.asarray(found[0]).tolist() == np.asarray(flat).tolist()
    assert (
        np.asarray(ImageChops.difference(found[1].convert("RGB"), noisy)).mean() < 8
    )  # noise is JPEG's worst case
    assert page.named("img")[1]["alt"] == "one: truth, 2 masks"
    assert not list((tmp_path / "new").glob("*.partial"))


def test_tables_show_figures_right_and_mark_the_best() -> None:
    rows: list[list[Cell]] = [
        ["teacher", 0.3123, 1200],
        ["student", 0.41, None],
        ["other", float("nan"), 7],
    ]
    table = Table("t", ["", "AP", "n"], rows, best={"AP": "max", "n": "min"})
    text = page_text("t", "", [table])
    page = read_page(text)
    assert page.tables == [
        [
            ["", "AP", "n"],
            ["teacher", "0.312", "1,200"],
            ["student", "0.410 (best)", "–"],
            ["other", "–", "7 (best)"],
        ]
    ]
    assert text.count('class="figure best"') == 2
    assert text.count('<th scope="col" class="figure">') == 2
    assert "tabular-nums" in text


def test_equal_figures_have_no_best_and_shown_ties_are_both_best() -> None:
    equal = Table("", ["", "AP"], [["a", 0.5], ["b", 0.5]], best={"AP": "max"})
    assert equal.best_rows(1) == set()
    rows: list[list[Cell]] = [["a", 0.30001], ["b", 0.30002], ["c", 0.1]]
    assert Table("", ["", "AP"], rows, best={"AP": "max"}).best_rows(1) == {0, 1}


def test_a_row_of_another_length_is_refused() -> None:
    gallery = Gallery("g", ["image", "truth"], [GalleryRow("one", [picture(4, 4)])])
    with pytest.raises(UsageError, match="2 columns"):
        page_text("t", "", [], [gallery])


def test_an_unwritable_place_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(UsageError, match="cannot be written"):
        write_page(tmp_path / "file" / "page.html", "t", "s")


def test_light_and_dark_and_narrow_are_in_the_style() -> None:
    text = page_text("t", "s")
    assert "prefers-color-scheme: dark" in text
    assert "max-width: 40rem" in text
    assert 'name="viewport"' in text


def test_histogram_bars_have_the_heights_of_their_counts() -> None:
    figure = histogram("h", [0, 0.5, 1.0], [Series("a", [4, 2]), Series("b", [0, 2])], "x", "y")
    page = read_page(page_text("t", "", extras=Extras(figures=[figure])))
    heights = [float(a["height"]) for a in page.named("rect")]
    assert len(heights) == 3
    assert heights[0] == pytest.approx(2 * heights[1], rel=1e-3)
    assert heights[1] == pytest.approx(heights[2], rel=1e-3)
    assert "0.5 to 1: 2 b" in page.text


def test_lines_leave_out_what_is_not_finite() -> None:
    series = [Series("loss", [3.0, float("nan"), 1.0, float("inf")], 1, [0, 1, 2, 3])]
    svg = lines("l", series, "x", "y").svg
    assert "nan" not in svg
    assert "inf" not in svg
    points = svg.split('points="')[1].split('"')[0].split()
    assert len(points) == 2
    ys = [float(p.split(",")[1]) for p in points]
    assert ys[0] < ys[1]  # 3.0 lies above 1.0


@pytest.mark.parametrize("value", [1e-7, 0.004, 0.37, 1.0, 8.0, 999.0, 12345.0, 3.2e6])
def test_axes_hold_any_range_with_few_round_ticks(value: float) -> None:
    svg = lines("l", [Series("a", [0.0, value], 1, [0, 1])], "x", "y").svg
    ticks = svg.count('class="grid"')
    assert 3 <= ticks <= 12
    top = float(svg.split('points="')[1].split('"')[0].split()[1].split(",")[1])
    assert 0 <= top <= 90


def test_empty_charts_are_drawn_too() -> None:
    figures = [
        histogram("h", [0, 1], [Series("a", [0])], "x", "y"),
        bars("b", [], []),
        lines("l", [Series("a", [], 1, [])], "x", "y"),
    ]
    read_page(page_text("t", "", extras=Extras(figures=figures)))


def test_a_page_is_told_from_other_files(tmp_path: Path) -> None:
    write_page(tmp_path / "page.html", "A title", "A summary")
    (tmp_path / "empty.html").touch()
    (tmp_path / "other.html").write_text("<!doctype html>\n<html><body>mine</body></html>")
    assert is_page(tmp_path / "page.html")
    assert is_page(tmp_path / "empty.html")
    assert not is_page(tmp_path / "other.html")
