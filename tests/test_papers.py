"""What documents and docstrings cite is in the repository: files, headings, pictures, source."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("s4m_pipeline", "tests", "benchmarks", "tools", "docs")
TEXT = {".md", ".py", ".toml", ".txt", ".yaml", ".yml", ""}
ELSEWHERE = tuple(name.upper() for name in ("method", "design", "house", "performance"))
"""Documents in capitals that a reader of the repository does not have."""


def texts() -> Iterator[Path]:
    """The text files that are tracked, or would be when added."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode == 0:
        paths = [ROOT / line for line in listed.stdout.splitlines()]
    else:  # an unpacked archive
        below = [path for name in FOLDERS for path in (ROOT / name).rglob("*")]
        paths = [*ROOT.glob("*"), *below]
    yield from (path for path in sorted(paths) if path.is_file() and path.suffix in TEXT)


TEXTS = list(texts())
DOCUMENTS = [path for path in TEXTS if path.suffix == ".md"]


def named(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def without_code(text: str) -> str:
    """A Markdown text without its blocks of code."""
    return re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)


def headings(document: Path) -> list[str]:
    """The words of all headings of a Markdown document."""
    text = without_code(document.read_text(encoding="utf-8"))
    return [line.strip("# ") for line in text.splitlines() if re.match(r"#{1,6} ", line)]


def anchors(document: Path) -> set[str]:
    """The names that links to a document's headings have, made as GitHub makes them."""
    plain = (re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings(document))
    return {heading.replace(" ", "-") for heading in plain}


def missing_names(text: str) -> list[str]:
    """Documents in capitals that are cited, but are not in the repository."""
    known = {path.name for path in DOCUMENTS}
    cited = re.findall(rf"\b(?:{'|'.join(ELSEWHERE)})\b(?!\.md)", text)
    files = re.findall(r"\b[A-Z]{3,}\.md\b", text)
    return [*cited, *(name for name in files if name not in known)]


def missing_documents(text: str) -> list[str]:
    """Files under docs/ that are cited, but do not exist."""
    cited = re.findall(r"\bdocs/[\w.-]+\.(?:md|png|svg)\b", text)
    return [name for name in cited if not (ROOT / name).is_file()]


def missing_sections(text: str) -> list[str]:
    """Sections cited as ``docs/X.md, "Section"`` or ``docs/X.md#section`` that do not exist."""
    line = re.sub(r"\s*\n\s*(?:# )?", " ", text)
    faults = []
    for name, section in re.findall(r'\bdocs/([\w-]+\.md), "([^"]+)"', line):
        document = ROOT / "docs" / name
        if document.is_file() and section not in headings(document):
            faults.append(f"{name}, {section}")
    for name, anchor in re.findall(r"\bdocs/([\w-]+\.md)#([\w-]+)", line):
        document = ROOT / "docs" / name
        if document.is_file() and anchor not in anchors(document):
            faults.append(f"{name}#{anchor}")
    return faults


def missing_links(text: str, folder: Path, own: set[str]) -> list[str]:
    """Links and pictures of a Markdown text that lead nowhere; other sites are not looked at.

    Args:
        text: The document.
        folder: What its links are relative to.
        own: Its own anchors.
    """
    faults = []
    for target in re.findall(r"\]\(([^)\s]+)\)", without_code(text)):
        path, _, anchor = target.partition("#")
        if re.match(r"[a-z]+:", target):
            continue
        document = folder / path
        is_there = document.exists()  # a folder, where the link is to this document
        if is_there and anchor:
            is_there = anchor in (anchors(document) if path else own)
        if not is_there:
            faults.append(target)
    return faults


def missing_sources(text: str) -> list[str]:
    """Paths of source that a Markdown text names in backticks and that do not exist.

    One that a text calls a new file is the reader's to make.
    """
    pattern = rf"`((?:{'|'.join(FOLDERS)})/[\w./-]*)`(?!, a new file)"
    told = re.findall(pattern, without_code(text))
    return [path for path in told if not (ROOT / path).exists()]


def faults_of(path: Path) -> list[str]:
    """What a text cites wrongly."""
    text = path.read_text(encoding="utf-8")
    numbers = re.findall(r"\b[Ii]ssues? #?\d+", text)
    faults = [*missing_names(text), *missing_documents(text), *missing_sections(text), *numbers]
    if path.suffix == ".md":
        faults += missing_links(text, path.parent, anchors(path))
        faults += missing_sources(text)
    return faults


def test_what_is_cited_is_there() -> None:
    own = Path(__file__)  # has wrong citations, as examples
    faults = {named(path): faults_of(path) for path in TEXTS if path != own}
    assert {name: told for name, told in faults.items() if told} == {}


def test_documents_are_found() -> None:
    names = {named(path) for path in DOCUMENTS}
    assert {"README.md", "CONTRIBUTING.md", "CHANGELOG.md"} <= names
    assert {f"docs/{n}.md" for n in ("guide", "method", "architecture", "extending")} <= names


def test_a_wrong_citation_is_told() -> None:
    assert missing_names(f"as {ELSEWHERE[0]}, section 2, says") == [ELSEWHERE[0]]
    assert missing_names(f"see {ELSEWHERE[3]}.md") == [f"{ELSEWHERE[3]}.md"]
    assert missing_names("see README.md and NOTES.md") == ["NOTES.md"]
    assert missing_documents("docs/guide.md, docs/nowhere.md") == ["docs/nowhere.md"]
    cited = 'docs/method.md,\n    "Structural distillation"; docs/method.md, "Nothing"'
    assert missing_sections(cited) == ["method.md, Nothing"]
    assert missing_sections("docs/guide.md#tables docs/guide.md#chairs") == ["guide.md#chairs"]
    links = "[a](#here) [b](#there) [c](guide.md#exit-codes) [d](guide.md#no) [e](no.md) "
    links += "[f](https://example.org/no.md)"
    faults = missing_links(links, ROOT / "docs", {"here"})
    assert faults == ["#there", "guide.md#no", "no.md"]
    sources = "`s4m_pipeline/config.py` `s4m_pipeline/no.py`, `s4m_pipeline/new.py`, a new file:"
    assert missing_sources(sources) == ["s4m_pipeline/no.py"]
