"""Pictures of more than 8 bits in an image set: their levels, and those that hardly use them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from s4m_pipeline.data.check.entries import ImageEntry
from s4m_pipeline.data.check.faults import FaultCounter
from s4m_pipeline.data.deep_pictures import may_be_deep
from s4m_pipeline.data.images import read_extremes
from s4m_pipeline.data.levels import Extremes, decided
from s4m_pipeline.data.reading import PLAIN, Reading
from s4m_pipeline.errors import UsageError
from s4m_pipeline.execution.parallel import Progress, work_through

Deep = dict[ImageEntry, Extremes]


def find_deep(
    folder: Path,
    images: Sequence[ImageEntry],
    processes: int,
    progress: Progress,
    megapixels: int = PLAIN.megapixels,
) -> Deep:
    """The pictures of more than 8 bits of a set; of the others only headers are read.

    Args:
        folder: The folder of images.
        images: Their entries.
        processes: How many processes decode pictures.
        progress: Shows how far it is.
        megapixels: What a picture may have.
    """
    candidates = [image for image in images if may_be_deep(folder / image.file_name) is not False]
    if not candidates:
        return {}
    paths = [folder / image.file_name for image in candidates]
    deep: Deep = {}
    with progress(f"levels of {folder.name}", len(candidates)) as advance:
        read = partial(read_extremes, megapixels=megapixels)
        found = work_through(read, paths, processes)
        for image, extremes in zip(candidates, found, strict=True):
            if extremes is not None:
                deep[image] = extremes
            advance(1, "")
    return deep


def with_levels(reading: Reading, sets: Sequence[Deep], faults: FaultCounter) -> Reading | None:
    """The rule by which pictures are read, its levels decided where they are not given.

    Args:
        reading: The rule, without levels where these are decided.
        sets: The pictures of more than 8 bits of all sets that belong together.
        faults: Where to count it when no levels hold for all.

    Returns:
        The rule; None where no levels hold for all, so that each picture is read by itself.
    """
    if reading.levels is not None:
        return reading
    try:
        levels = decided({image.name: found for deep in sets for image, found in deep.items()})
    except UsageError as error:
        faults.add("no-common-levels", str(error).splitlines()[0])
        return None
    return replace(reading, levels=levels)


def check_levels(deep: Deep, reading: Reading | None, faults: FaultCounter) -> None:
    """Count the pictures of more than 8 bits, and those that use under a tenth of the levels."""
    if reading is None or reading.levels is None:
        return
    for image, found in deep.items():
        text = f"{image.name}: {found.low:g}..{found.high:g} of the levels {reading.levels}"
        faults.add("deep-image", text)
        if found.uses_few(reading.levels):
            faults.add("few-levels", text)
