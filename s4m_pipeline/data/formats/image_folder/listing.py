"""Which files of a folder are taken as images, and what is passed over. No torch.

Names are looked at, no file is opened. Hidden files and folders are passed over: thumbnails,
copies of notebooks, what macOS leaves in archives. Linked folders are followed, each folder once.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from s4m_pipeline.wording import counted

SUFFIXES = frozenset(
    {".bmp", ".gif", ".jfif", ".jpe", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"}
)
"""Suffixes of image files that every Pillow reads, in lower case."""
PERHAPS = {".avif": "avif", ".jp2": "jpg_2000", ".j2k": "jpg_2000", ".heic": "", ".heif": ""}
"""Suffixes that some Pillows read, with the name of the feature; none is a plugin's."""
UNWANTED = frozenset({"__MACOSX"})
"""Folders beside the hidden ones that hold no pictures of their own."""


@dataclass(slots=True)
class Listing:
    """The files below a folder.

    Attributes:
        names: The image files, sorted, relative to the folder, with "/" between their parts.
        passed_over: Numbers of other files by suffix.
        hidden: Hidden files and folders.
        linked: Links, to folders and to images, that were followed.
        broken: Links that lead nowhere, and folders that cannot be read.
    """

    names: list[str] = field(default_factory=list)
    passed_over: Counter[str] = field(default_factory=Counter)
    hidden: int = 0
    linked: list[str] = field(default_factory=list)
    broken: int = 0

    def rest(self) -> str:
        """What was passed over, in words; empty where nothing was."""
        parts = [
            f"{count:,} {suffix or 'without a suffix'}{_why(suffix)}"
            for suffix, count in sorted(self.passed_over.items())
        ]
        if self.hidden:
            parts.append(f"{self.hidden:,} hidden")
        if self.broken:
            parts.append(counted(self.broken, "broken link", "broken links"))
        return ", ".join(parts)


def list_folder(folder: Path) -> Listing:
    """List what is below a folder.

    Args:
        folder: A folder that is there.
    """
    listing = Listing()
    seen: set[tuple[int, int]] = set()
    linked: list[str] = [""]
    while linked:  # what is really there comes before what is linked to
        place = linked.pop(0)
        if _list(folder, place, listing, seen, linked) and place:
            listing.linked.append(place)
    listing.names.sort()
    return listing


def _list(
    folder: Path, place: str, listing: Listing, seen: set[tuple[int, int]], linked: list[str]
) -> bool:
    """List a folder and those in it; gives whether it was not listed before."""
    waiting, is_new = [place], False
    while waiting:
        place = waiting.pop()
        try:
            state = os.stat(folder / place)
            entries = sorted(os.scandir(folder / place), key=lambda entry: entry.name)
        except OSError:
            listing.broken += 1
            continue
        if (state.st_dev, state.st_ino) in seen:
            continue
        seen.add((state.st_dev, state.st_ino))
        is_new = True
        for entry, name in _visible(entries, place, listing):
            if not entry.is_dir():
                _take_file(entry, name, listing)
            elif entry.is_symlink():
                linked.append(name)
            else:
                waiting.append(name)
    return is_new


def _visible(
    entries: list[os.DirEntry[str]], place: str, listing: Listing
) -> Iterator[tuple[os.DirEntry[str], str]]:
    """The entries that are not hidden, with their names relative to the listed folder."""
    for entry in entries:
        if entry.name.startswith(".") or entry.name in UNWANTED:
            listing.hidden += 1
        else:
            yield entry, f"{place}/{entry.name}" if place else entry.name


def _take_file(entry: os.DirEntry[str], name: str, listing: Listing) -> None:
    suffix = os.path.splitext(entry.name)[1].lower()
    if not entry.is_file():
        listing.broken += entry.is_symlink()
    elif suffix in SUFFIXES or (suffix in PERHAPS and _pillow_reads(suffix)):
        listing.names.append(name)
        if entry.is_symlink():
            listing.linked.append(name)
    else:
        listing.passed_over[suffix] += 1


def _why(suffix: str) -> str:
    return " (this Pillow does not read them)" if suffix in PERHAPS else ""


@cache
def _pillow_reads(suffix: str) -> bool:
    # late: `s4m status` lists folders without Pillow where none of these is there
    from PIL import Image, features

    feature = PERHAPS[suffix]
    if feature:
        return bool(features.check(feature))
    Image.init()
    return Image.registered_extensions().get(suffix) in Image.OPEN
