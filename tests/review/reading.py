"""What tests see in a page: its tags, texts and pictures, through the standard HTML parser."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass, field
from html.parser import HTMLParser

from PIL import Image

VOID = {"meta", "img", "br", "link", "input", "hr"}


@dataclass
class Page(HTMLParser):
    """Collects a page; ``problems`` names tags that were closed out of order."""

    tags: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    tables: list[list[list[str]]] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    stack: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in VOID:
            self.stack.append(tag)
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        if not self.stack or self.stack.pop() != tag:
            self.problems.append(tag)

    def handle_data(self, data: str) -> None:
        self.texts.append(data)
        if "td" in self.stack or ("th" in self.stack and "table" in self.stack):
            self.tables[-1][-1][-1] += data

    def named(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.tags if name == tag]

    @property
    def text(self) -> str:
        return "".join(self.texts)

    def pictures(self) -> list[Image.Image]:
        found: list[Image.Image] = []
        for attributes in self.named("img"):
            head, data = attributes["src"].split(",", 1)
            assert head in ("data:image/png;base64", "data:image/jpeg;base64")
            picture = Image.open(io.BytesIO(base64.b64decode(data, validate=True)))
            picture.load()
            found.append(picture)
        return found


def read_page(text: str) -> Page:
    """Parse a page and check what holds for all pages: well formed, and nothing from outside."""
    page = Page()
    page.feed(text)
    page.close()
    assert not page.problems
    assert not page.stack
    assert not page.named("script")
    assert not page.named("link")
    for _, attributes in page.tags:
        for name in ("src", "href", "xlink:href", "action", "data", "poster", "srcset"):
            value = attributes.get(name, "#")
            assert value.startswith(("data:image/", "#")), value[:80]
        assert not any(name.startswith("on") for name in attributes)
        assert "url(" not in attributes.get("style", "")
    style = text[text.index("<style>") : text.index("</style>")]
    assert "url(" not in style
    assert "@import" not in style
    assert "://" not in text.replace("base64,", "")
    return page
