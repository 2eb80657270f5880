"""Check a COCO file: every kind of fault is counted, and none is fatal. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from s4m_pipeline.data.check.duplicates import Match, find_repeated, find_shared
from s4m_pipeline.data.check.entries import (
    ImageEntry,
    References,
    check_entries,
    split_outside,
    usable_images,
)
from s4m_pipeline.data.check.faults import FAULTS, NOTES, Fault, FaultCounter
from s4m_pipeline.data.check.files import Report, check_files
from s4m_pipeline.data.check.picture_levels import check_levels, find_deep, with_levels
from s4m_pipeline.data.check.picture_prints import Print
from s4m_pipeline.data.folders import require_folder
from s4m_pipeline.data.formats.coco.reader import load_coco_json
from s4m_pipeline.data.formats.coco.text import CocoText
from s4m_pipeline.data.formats.coco.values import picture_name
from s4m_pipeline.data.reading import PLAIN, Reading
from s4m_pipeline.execution.parallel import Progress, silent

__all__ = ["FAULTS", "NOTES", "Fault", "check_coco"]

KINDS = {
    "same-file": "same file",
    "same-pixels": "same pixels",
    "near-duplicate": "nearly the same",
}


def check_coco(
    annotations: Path,
    images: Path,
    *,
    decode: bool = False,
    against: Sequence[tuple[Path, Path]] = (),
    processes: int = 1,
    progress: Progress = silent,
    reading: Reading = PLAIN,
    outside: bool = False,
) -> list[Fault]:
    """Check a COCO file and its images.

    Args:
        annotations: The COCO file.
        images: The folder its file names are relative to.
        decode: Decode every image whole, not its header alone, and find images that occur
            twice.
        against: Other sets, each a COCO file and its folder, that should share no picture with
            this one. Where there are any, images are decoded.
        processes: How many processes check images and masks.
        progress: Shows how far it is.
        reading: How the pictures are read; without levels, these are decided over all sets.
        outside: Whether file names may lead out of their folder. Those that do are not opened.

    Returns:
        Faults in the order of ``FAULTS``, then those of ``NOTES``; empty when there are none.

    Raises:
        UsageError: A COCO file is missing, not JSON, or has no list of images; or a folder of
            images is missing or a file.
    """
    for folder in (images, *(folder for _, folder in against)):
        require_folder(folder)
    references, faults = References(), FaultCounter()
    text = CocoText(annotations, references.add)
    if not text.images:
        faults.add("no-images", str(annotations))
    entries, leaving = split_outside(images, check_entries(text, references, faults), outside)
    for entry in leaving:
        faults.add("outside-name", entry.name)
    own = _Set(annotations, images, entries)
    others = [_Set(*pair, _inside(*pair, outside, faults)) for pair in against]
    work = _Work(decode or bool(against), processes, progress, faults)
    rule = work.rule_of(reading, [own, *others])
    report = work.pictures(own, rule, (text, references))
    faults.merge(report.faults)
    report.turned.hint(faults)
    del text, references  # half a gigabyte for COCO
    work.find_repeated(report.prints)
    for other in others:
        work.compare(report.prints, work.pictures(other, rule), other)
    return faults.listed()


@dataclass(frozen=True, slots=True)
class _Set:
    """A COCO file, its folder of images, and the entries whose pictures may be opened."""

    source: Path
    folder: Path
    entries: Sequence[ImageEntry]


@dataclass(frozen=True, slots=True)
class _Work:
    """The checks that open pictures.

    Attributes:
        decode: Decode them whole.
        processes: How many processes check them.
        progress: Shows how far it is.
        faults: Where to count what is wrong.
    """

    decode: bool
    processes: int
    progress: Progress
    faults: FaultCounter

    def rule_of(self, reading: Reading, sets: Sequence[_Set]) -> Reading | None:
        """How pictures are read, with levels that hold for all sets, of which the first is checked.

        None where no levels hold for all.
        """
        if not self.decode:
            return reading
        work = (self.processes, self.progress, reading.megapixels)
        deep = [find_deep(one.folder, one.entries, *work) for one in sets]
        rule = with_levels(reading, deep, self.faults)
        check_levels(deep[0], rule, self.faults)
        return rule

    def pictures(
        self, one: _Set, rule: Reading | None, content: tuple[CocoText, References] | None = None
    ) -> Report:
        """Check the pictures of a set, and the masks where its file's text is given."""
        entries = one.entries
        work = (self.decode, self.processes, self.progress)
        return check_files(one.folder, entries, content, *work, rule)

    def find_repeated(self, prints: Sequence[Print]) -> None:
        """Count the pictures that are in the set twice."""
        # a file that two entries name is a fault already, and no further one by its content
        by_file = {picture_name(str(one.path)): one for one in reversed(prints)}
        once = [one for one in prints if by_file[picture_name(str(one.path))] is one]
        for match in find_repeated(once, self.processes, self.progress):
            self.faults.add("repeated-image", _description(match))

    def compare(self, prints: Sequence[Print], report: Report, other: _Set) -> None:
        """Count the pictures that another set has too."""
        known = {picture.name for picture in report.prints}
        for entry in other.entries:
            if entry.name not in known:
                self.faults.add("unreadable-other", f"{entry.name} of {other.source}")
        for match in find_shared(prints, report.prints, self.processes, self.progress):
            what = f"{match.picture.name} is {match.other.name} of {other.source}"
            self.faults.add(match.kind, what)


def _inside(other: Path, folder: Path, outside: bool, faults: FaultCounter) -> list[ImageEntry]:
    """The entries of another set that may be opened; the others are counted."""
    entries = usable_images(load_coco_json(other)["images"])
    inside, leaving = split_outside(folder, entries, outside)
    for entry in leaving:
        faults.add("unreadable-other", f"{entry.name} of {other}, which leads out of {folder}")
    return inside


def _description(match: Match) -> str:
    return f"{match.picture.name} is {match.other.name}, {KINDS[match.kind]}"
