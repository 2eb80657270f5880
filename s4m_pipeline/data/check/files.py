"""Checks of image files and masks, a batch of images at a time in several processes. No torch."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from s4m_pipeline.data.check.entries import ImageEntry, References, annotation_name
from s4m_pipeline.data.check.faults import EXAMPLES, FaultCounter
from s4m_pipeline.data.check.masks import check_mask
from s4m_pipeline.data.check.picture_prints import Print, take_print
from s4m_pipeline.data.check.turned_images import TurnedImages
from s4m_pipeline.data.formats.coco.text import CocoText
from s4m_pipeline.data.images import has_frames, image_size, turned_text
from s4m_pipeline.data.near_names import NearNames
from s4m_pipeline.data.reading import PLAIN, Reading
from s4m_pipeline.errors import UsageError
from s4m_pipeline.execution.parallel import Progress, work_through

BATCH = 32
"""Images, with their annotations, that a process takes at a time."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Images to check.

    Attributes:
        folder: Where they are.
        images: Their entries.
        annotations: The JSON texts of each one's annotations.
        decode: Whether to decode them whole.
        reading: How they are read; None for each by itself.
    """

    folder: Path
    images: tuple[ImageEntry, ...]
    annotations: tuple[tuple[str, ...], ...]
    decode: bool
    reading: Reading | None


@dataclass(slots=True)
class Report:
    """Faults of some images, the prints of those that could be decoded, and which are turned.

    Attributes:
        faults: What is wrong, but for missing files.
        prints: Prints of the pictures.
        turned: Pictures that an EXIF orientation turns.
        missing: Images whose file is missing.
    """

    faults: FaultCounter = field(default_factory=FaultCounter)
    prints: list[Print] = field(default_factory=list)
    turned: TurnedImages = field(default_factory=TurnedImages)
    missing: list[ImageEntry] = field(default_factory=list)

    def merge(self, other: Report) -> None:
        """Take in the report of another batch."""
        self.faults.merge(other.faults)
        self.prints.extend(other.prints)
        self.turned.merge(other.turned)
        self.missing.extend(other.missing)


def check_files(
    folder: Path,
    images: Sequence[ImageEntry],
    content: tuple[CocoText, References] | None,
    decode: bool,
    processes: int,
    progress: Progress,
    reading: Reading | None = PLAIN,
) -> Report:
    """Check image files and, where the file's text is given, masks.

    Args:
        folder: The folder of images.
        images: The entries to check.
        content: The COCO file with its annotations' places; None to check the pictures alone.
        decode: Decode the images whole and take their prints.
        processes: How many processes work.
        progress: Shows how far it is.
        reading: How the pictures are read; None for each by itself.
    """
    report = Report()
    batches = _batches(folder, images, content, decode, reading)
    with progress(f"check {folder.name}", len(images)) as advance:
        for number, part in enumerate(work_through(check_batch, batches, processes)):
            report.merge(part)
            advance(min(BATCH, len(images) - number * BATCH), "")
    names = NearNames(folder)
    for number, image in enumerate(report.missing):
        hint = names.hint(image.file_name) if number < EXAMPLES else ""
        report.faults.add("missing-image", image.name + hint)
    return report


def check_batch(batch: Batch) -> Report:
    """Check the files and masks of some images."""
    report = Report()
    for image, texts in zip(batch.images, batch.annotations, strict=True):
        _check_file(image, batch, report)
        for text in texts:
            entry = json.loads(text)
            check_mask(entry, image.height, image.width, annotation_name(entry), report.faults)
    return report


def _batches(
    folder: Path,
    images: Sequence[ImageEntry],
    content: tuple[CocoText, References] | None,
    decode: bool,
    reading: Reading | None,
) -> Iterator[Batch]:
    for first in range(0, len(images), BATCH):
        part = tuple(images[first : first + BATCH])
        texts = tuple(_texts(image, content) for image in part)
        yield Batch(folder, part, texts, decode, reading)


def _texts(image: ImageEntry, content: tuple[CocoText, References] | None) -> tuple[str, ...]:
    if content is None:
        return ()
    text, references = content
    return tuple(text.annotation(place) for place in references.by_image.get(image.id, ()))


def _check_file(image: ImageEntry, batch: Batch, report: Report) -> None:
    path = batch.folder / image.file_name
    if not os.path.isfile(path):  # unlike Path.is_file it takes any name
        report.missing.append(image)
        return
    reading = batch.reading or PLAIN
    try:
        if batch.decode:
            picture, (height, width) = take_print(image.name, path, batch.reading)
            report.prints.append(picture)
        else:
            height, width = image_size(path, reading.upright, reading.megapixels)
    except UsageError as error:
        reason = str(error).removeprefix(f"{path}: ")
        report.faults.add("unreadable-image", f"{image.name}: {reason}")
        return
    size = (image.height, image.width)
    report.turned.look_at(path, image.name, size, report.faults)
    if has_frames(path):
        report.faults.add("several-frames", image.name)
    if (height, width) != size:
        sizes = f"{image.width} x {image.height}, the file {width} x {height}"
        sizes += turned_text(path, size, reading.upright)
        report.faults.add("size-mismatch", f"{image.name}: {sizes}")
