"""Check a COCO file: every kind of fault is counted, and none is fatal. No torch."""

from __future__ import annotations

from collections.abc import Sequence
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
    decode = decode or bool(against)
    others = [_inside(other, folder, outside, faults) for other, folder in against]
    rule: Reading | None = reading
    if decode:
        of_sets = zip([images, *(folder for _, folder in against)], [entries, *others], strict=True)
        deep = [find_deep(folder, listed, processes, progress) for folder, listed in of_sets]
        rule = with_levels(reading, deep, faults)
        check_levels(deep[0], rule, faults)
    report = check_files(images, entries, (text, references), decode, processes, progress, rule)
    faults.merge(report.faults)
    report.turned.hint(faults)
    del text, references  # half a gigabyte for COCO
    # a file that two entries name is a fault already, and no further one by its content
    by_file = {picture_name(str(one.path)): one for one in reversed(report.prints)}
    once = [one for one in report.prints if by_file[picture_name(str(one.path))] is one]
    for match in find_repeated(once, processes, progress):
        faults.add("repeated-image", _description(match))
    for (other, folder), listed in zip(against, others, strict=True):
        theirs = check_files(folder, listed, None, True, processes, progress, rule)
        _compare(report.prints, theirs, other, listed, faults, processes, progress)
    return faults.listed()


def _inside(other: Path, folder: Path, outside: bool, faults: FaultCounter) -> list[ImageEntry]:
    """The entries of another set that may be opened; the others are counted."""
    entries = usable_images(load_coco_json(other)["images"])
    inside, leaving = split_outside(folder, entries, outside)
    for entry in leaving:
        faults.add("unreadable-other", f"{entry.name} of {other}, which leads out of {folder}")
    return inside


def _compare(
    prints: Sequence[Print],
    report: Report,
    other: Path,
    entries: Sequence[ImageEntry],
    faults: FaultCounter,
    processes: int,
    progress: Progress,
) -> None:
    """Count the pictures that another set has too."""
    known = {picture.name for picture in report.prints}
    for entry in entries:
        if entry.name not in known:
            faults.add("unreadable-other", f"{entry.name} of {other}")
    for match in find_shared(prints, report.prints, processes, progress):
        faults.add(match.kind, f"{match.picture.name} is {match.other.name} of {other}")


def _description(match: Match) -> str:
    return f"{match.picture.name} is {match.other.name}, {KINDS[match.kind]}"
