"""Images, read ahead of the work on them; what cannot be read is set aside."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from s4m_pipeline.data.image_set import ImageRecord
from s4m_pipeline.data.images import decoded_size, prepare_threads, read_image, read_sized_image
from s4m_pipeline.errors import UsageError
from s4m_pipeline.execution.ahead import DECODED_BYTES, Budget, done_ahead
from s4m_pipeline.wording import escaped

if TYPE_CHECKING:
    import numpy as np

Prepared = TypeVar("Prepared")
READERS = 4
"""Threads that decode images ahead of the device; decoding releases the GIL."""
AHEAD = 16
"""How many decoded images wait at most."""


def load_images(
    records: Sequence[ImageRecord],
    stage: str,
    quarantine: list[dict[str, Any]],
    decoded_bytes: int = DECODED_BYTES,
) -> Iterator[tuple[ImageRecord, np.ndarray]]:
    """Read images in order, some ahead of the consumer: uint8 (H, W, 3) RGB.

    Args:
        records: The images.
        stage: The stage's name, for the rows of ``quarantine``.
        quarantine: Gets a row for each image that cannot be read.
        decoded_bytes: What decoded images that wait may take.
    """
    return load_prepared(records, stage, quarantine, lambda image: image, decoded_bytes)


def load_prepared(
    records: Sequence[ImageRecord],
    stage: str,
    quarantine: list[dict[str, Any]],
    prepare: Callable[[np.ndarray], Prepared],
    decoded_bytes: int = DECODED_BYTES,
) -> Iterator[tuple[ImageRecord, Prepared]]:
    """As `load_images`, with what ``prepare`` makes of each image, in a thread and ahead too."""

    def read(record: ImageRecord) -> Prepared | UsageError:
        return read_prepared(record, prepare)

    prepare_threads()
    budget = Budget(decoded_bytes, decoded_size)
    images = done_ahead(read, records, READERS, AHEAD, budget)
    for record, prepared in zip(records, images, strict=True):
        if isinstance(prepared, UsageError):
            quarantine.append(quarantine_row(record, stage, prepared))
        else:
            yield record, prepared


def read_prepared(
    record: ImageRecord, prepare: Callable[[np.ndarray], Prepared]
) -> Prepared | UsageError:
    """What ``prepare`` makes of an image, or why the image cannot be read. Safe in any thread.

    Args:
        record: The image.
        prepare: Takes uint8 (H, W, 3) RGB.
    """
    try:
        image = read_sized_image(record.path, record.height, record.width, record.reading)
    except UsageError as error:
        return error
    return prepare(image)


@dataclass(frozen=True, slots=True)
class ShownPicture:
    """A picture of a set as pages show it.

    Attributes:
        record: The image.
    """

    record: ImageRecord

    @property
    def name(self) -> str:
        """The file's name."""
        return self.record.path.name

    def read(self) -> np.ndarray | None:
        """Its pixels, uint8 (H, W, 3) RGB; None where it cannot be read."""
        try:
            return read_image(self.record.path, self.record.reading)
        except UsageError:
            return None


def quarantine_row(record: ImageRecord, stage: str, error: Exception | str) -> dict[str, Any]:
    """A row of the quarantine table."""
    return {
        "image_id": record.id,
        "file_name": record.file_name,
        "stage": stage,
        "error": escaped(str(error)),
        "attempts": 1,
    }


def is_full(batch: Sequence[tuple[ImageRecord, Prepared]], size: int, decoded_bytes: int) -> bool:
    """Whether a batch has its images, or images of half the bytes that may wait decoded.

    What a worker brought to a smaller scale counts as nothing.
    """
    held = sum(getattr(prepared, "nbytes", 0) for _, prepared in batch)
    return len(batch) >= size or 2 * held >= decoded_bytes


def in_batches(
    items: Iterator[tuple[ImageRecord, Prepared]], size: int, decoded_bytes: int = DECODED_BYTES
) -> Iterator[list[tuple[ImageRecord, Prepared]]]:
    """Group images into batches of ``size``, the last one and those of large images smaller."""
    batch: list[tuple[ImageRecord, Prepared]] = []
    for item in items:
        batch.append(item)
        if is_full(batch, size, decoded_bytes):
            yield batch
            batch = []
    if batch:
        yield batch
