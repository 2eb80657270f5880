"""One self-contained HTML page: tables, charts and rows of pictures, all inside the file."""

from __future__ import annotations

import base64
import io
import os
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from PIL import Image

from s4m_pipeline.artifacts.plain_files import clear_the_way
from s4m_pipeline.errors import UsageError
from s4m_pipeline.review.charts import Figure
from s4m_pipeline.review.page_style import STYLE
from s4m_pipeline.review.palette import Colour, hex_colour
from s4m_pipeline.review.table import Table
from s4m_pipeline.system_errors import full_disk

_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
_JPEG_QUALITY = 90


@dataclass(slots=True)
class GalleryRow:
    """One image's pictures.

    Attributes:
        name: The image's name, above its pictures.
        pictures: One per column of the gallery; None leaves its place empty.
        captions: One per column, shown after the column's name; may be empty.
    """

    name: str
    pictures: Sequence[Image.Image | None]
    captions: Sequence[str] = ()


@dataclass(slots=True)
class Gallery:
    """Pictures of several images side by side, in named columns."""

    title: str
    columns: Sequence[str]
    rows: Sequence[GalleryRow]
    note: str = ""
    legend: Sequence[tuple[str, Colour]] = ()


@dataclass(slots=True)
class Extras:
    """What a page may hold besides tables and galleries.

    Attributes:
        facts: (name, value) pairs, shown large under the summary.
        figures: Charts, shown between tables and galleries.
        notes: A list under ``notes_title``, before the galleries: sentences, or (term, meaning).
        notes_title: The list's title.
        footer: Small text at the end.
    """

    facts: Sequence[tuple[str, str]] = ()
    figures: Sequence[Figure] = ()
    notes: Sequence[str | tuple[str, str]] = ()
    notes_title: str = "How to read this"
    footer: str = ""


_NO_EXTRAS = Extras()


_HEAD = (
    "<!doctype html>",
    '<html lang="en"><head><meta charset="utf-8">',
    '<meta name="viewport" content="width=device-width, initial-scale=1">',
)
"""How every page begins."""


def is_page(path: Path) -> bool:
    """Whether a file is a page as ``write_page`` writes them, or empty."""
    head = "\n".join([*_HEAD, f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'])
    with path.open("rb") as stream:
        return stream.read(len(head)) in (head.encode(), b"")


def write_page(
    path: Path,
    title: str,
    summary: str,
    tables: Sequence[Table] = (),
    galleries: Sequence[Gallery] = (),
    extras: Extras = _NO_EXTRAS,
) -> None:
    """Write a page that needs no other file, no network and no script.

    Args:
        path: The HTML file; its folder is made when missing. Written by rename.
        title: The page's title, as text.
        summary: A paragraph under the title, as text; blank lines separate paragraphs.
        tables: Tables, in order.
        galleries: Rows of pictures, in order.
        extras: Key figures, charts and notes.

    Raises:
        UsageError: A gallery's row has another number of pictures than the gallery has columns, or
            the file cannot be written.
    """
    text = page_text(title, summary, tables, galleries, extras)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
        clear_the_way(partial).write_text(text, encoding="utf-8", errors="backslashreplace")
        partial.replace(path)
    except OSError as error:
        failed = UsageError(f"{path}: cannot be written ({error.strerror or error})")
        raise full_disk(error, path) or failed from error


def page_text(
    title: str,
    summary: str,
    tables: Sequence[Table] = (),
    galleries: Sequence[Gallery] = (),
    extras: Extras = _NO_EXTRAS,
) -> str:
    """Make the text of the page that ``write_page`` writes."""
    parts = [
        *_HEAD,
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">',
        f"<title>{escape(title)}</title>",
        f"<style>{STYLE}</style></head><body>",
        f"<header><h1>{escape(title)}</h1>{_paragraphs(summary)}{_facts(extras.facts)}</header>",
        "<main>",
        *(table_html(table) for table in tables),
        _figures(extras.figures),
        _notes(extras),
        *(_gallery(gallery, place) for place, gallery in enumerate(galleries)),
        "</main>",
    ]
    if extras.footer:
        parts.append(f"<footer>{escape(extras.footer)}</footer>")
    parts.append("</body></html>")
    return "\n".join(part for part in parts if part) + "\n"


def table_html(table: Table) -> str:
    """A table as HTML; best figures are bold, coloured and named so for screen readers."""
    columns = range(len(table.columns))
    kinds = [' class="figure"' if table.is_figure_column(c) else "" for c in columns]
    best = [table.best_rows(c) for c in columns]
    head = "".join(
        f'<th scope="col"{kind}>{escape(name)}</th>'
        for name, kind in zip(table.columns, kinds, strict=True)
    )
    body = "".join(
        "<tr>"
        + "".join(_cell(table, place, c, bool(kinds[c]), place in best[c]) for c in columns)
        + "</tr>"
        for place in range(len(table.rows))
    )
    title = f"<h2>{escape(table.title)}</h2>" if table.title else ""
    note = f'<p class="note">{escape(table.note)}</p>' if table.note else ""
    return (
        f'<section>{title}<div class="scroll"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>{note}</section>"
    )


def picture_uri(picture: Image.Image) -> str:
    """A picture as a data URI: PNG or JPEG without colour subsampling, whichever is smaller."""
    exact, small = io.BytesIO(), io.BytesIO()
    rgb = picture.convert("RGB")
    rgb.save(exact, "PNG", optimize=False, compress_level=6)
    rgb.save(small, "JPEG", quality=_JPEG_QUALITY, subsampling=0, optimize=True)
    if exact.tell() <= small.tell():
        return "data:image/png;base64," + base64.b64encode(exact.getvalue()).decode()
    return "data:image/jpeg;base64," + base64.b64encode(small.getvalue()).decode()


def _cell(table: Table, row: int, column: int, figure: bool, best: bool) -> str:
    cell = table.rows[row][column]
    text = table.text(cell, column)
    classes = [
        name
        for name, wanted in (("figure", figure), ("best", best), (table.tones.get(text, ""), True))
        if wanted and name
    ]
    kind = f' class="{escape(" ".join(classes))}"' if classes else ""
    mark = '<span class="hidden"> (best)</span>' if best else ""
    if column == 0 and not figure:
        return f'<th scope="row"{kind}>{escape(text)}</th>'
    return f"<td{kind}>{escape(text)}{mark}</td>"


def _paragraphs(text: str) -> str:
    blocks = [block.strip() for block in text.split("\n\n")]
    return "".join(f"<p>{escape(block)}</p>" for block in blocks if block)


def _facts(facts: Sequence[tuple[str, str]]) -> str:
    if not facts:
        return ""
    items = "".join(
        f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in facts
    )
    return f'<dl class="facts">{items}</dl>'


def _figures(figures: Sequence[Figure]) -> str:
    if not figures:
        return ""
    items = []
    for figure in figures:
        note = f'<p class="note">{escape(figure.note)}</p>' if figure.note else ""
        items.append(f"<section><h2>{escape(figure.title)}</h2>{figure.svg}{note}</section>")
    return f'<section class="charts">{"".join(items)}</section>'


def _notes(extras: Extras) -> str:
    if not extras.notes:
        return ""
    items = "".join(
        f"<li>{escape(note)}</li>"
        if isinstance(note, str)
        else f"<li><b>{escape(note[0])}</b> {escape(note[1])}</li>"
        for note in extras.notes
    )
    return f'<section><h2>{escape(extras.notes_title)}</h2><ul class="notes">{items}</ul></section>'


def _gallery(gallery: Gallery, place: int) -> str:
    note = f"<p>{escape(gallery.note)}</p>" if gallery.note else ""
    legend = "".join(
        f'<li><i style="background:{hex_colour(colour)}"></i>{escape(name)}</li>'
        for name, colour in gallery.legend
    )
    rows = "".join(
        _gallery_row(gallery, row, f"g{place}r{number}") for number, row in enumerate(gallery.rows)
    )
    return (
        f"<section><h2>{escape(gallery.title)}</h2>{note}"
        + (f'<ul class="legend">{legend}</ul>' if legend else "")
        + (rows or '<p class="soft">No pictures.</p>')
        + "</section>"
    )


def _gallery_row(gallery: Gallery, row: GalleryRow, anchor: str) -> str:
    count = len(gallery.columns)
    if len(row.pictures) != count or len(row.captions) not in (0, count):
        raise UsageError(
            f"gallery '{gallery.title}', row '{row.name}': {count} columns, but "
            f"{len(row.pictures)} pictures and {len(row.captions)} captions"
        )
    captions = row.captions or [""] * count
    figures = "".join(
        _picture(picture, column, caption, row.name, f"{anchor}c{number}", anchor)
        for number, (picture, column, caption) in enumerate(
            zip(row.pictures, gallery.columns, captions, strict=True)
        )
    )
    return (
        f'<div class="row" id="{anchor}"><h3>{escape(row.name)}</h3>'
        f'<div class="pictures" style="grid-template-columns:repeat({count},minmax(0,1fr));'
        f'max-width:{count * 30}rem">{figures}</div></div>'
    )


def _picture(
    picture: Image.Image | None, column: str, caption: str, name: str, anchor: str, back: str
) -> str:
    """One picture with its caption; a click shows it large (a link to itself, no script)."""
    words = f"<b>{escape(column)}</b> {escape(caption)}".strip()
    if picture is None:
        return f'<figure><div class="none">none</div><figcaption>{words}</figcaption></figure>'
    alt = f"{name}: {column}" + (f", {caption}" if caption else "")
    return (
        f'<figure><div class="zoom" id="{anchor}"><a href="#{anchor}"><img alt="{escape(alt)}" '
        f'width="{picture.width}" height="{picture.height}" src="{picture_uri(picture)}"></a>'
        f'<a class="close" href="#{back}">Close</a></div><figcaption>{words}</figcaption></figure>'
    )
