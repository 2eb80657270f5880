"""Reading image files into pixels, strictly: what cannot be read whole is an error. No torch.

Stages import this file and ``s4m status`` must answer at once, so the functions that need Pillow
import it themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from s4m_pipeline.config_data import MOST_MEGAPIXELS
from s4m_pipeline.data.deep_pictures import extremes_of, is_deep, may_be_deep, values_of
from s4m_pipeline.data.exif import decoded, orientation_of, size_of
from s4m_pipeline.data.image_set import ImageRecord
from s4m_pipeline.data.levels import Extremes, decided
from s4m_pipeline.data.opened import opened
from s4m_pipeline.data.reading import PLAIN, Reading
from s4m_pipeline.errors import UsageError
from s4m_pipeline.execution.ahead import DECODED_BYTES, Budget, done_ahead

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image

MOST_ASPECT = 100
"""An image's longer side is at most this many times the shorter one. A thinner image would lose its
short side when it is scaled down."""
CHANNELS = 3
"""Bytes of a pixel."""
THREADS = 4
"""How many images ``unreadable`` decodes at a time; decoding releases the GIL."""


def read_image(path: Path, reading: Reading | None = None) -> np.ndarray:
    """Decode an image file, turned upright as its EXIF orientation says, or as it is stored.

    Of a file with several frames or pages, the first is read.

    Args:
        path: The file.
        reading: How the pictures of its set are read; None for a picture by itself, which is turned
            upright and whose levels are its own where it has more than 8 bits.

    Returns:
        uint8 array (height, width, 3), RGB.

    Raises:
        UsageError: The file is missing, unreadable, no image, truncated or broken, too large, or
            its set has no levels for its bits; the message names it.
    """
    import numpy as np

    with opened(path, (reading or PLAIN).megapixels) as image:
        if is_deep(image):
            return _deep_as_rgb(image, path, reading)
        image = decoded(image, reading is None or reading.upright)
        # convert would copy an RGB image
        rgb: Image.Image = image if image.mode == "RGB" else image.convert("RGB")
        return np.array(rgb, dtype=np.uint8)


def _deep_as_rgb(image: Image.Image, path: Path, reading: Reading | None) -> np.ndarray:
    """Bring a picture of more than 8 bits to 8-bit RGB by its set's levels."""
    import numpy as np

    values = values_of(image, path, reading is None or reading.upright)
    if reading is None:
        levels = decided({path.name: extremes_of(values)})
    else:
        levels = reading.levels
    if levels is None:
        raise ValueError(
            "it has more than 8 bits, and no levels are known for its set; set data.levels to a "
            "low and a high value"
        )
    scaled = levels.eight_bits(values)
    return scaled if scaled.ndim == 3 else np.repeat(scaled[..., None], 3, axis=2)


def read_extremes(path: Path, megapixels: int = MOST_MEGAPIXELS) -> Extremes | None:
    """What of a picture's values decides the levels; None for one of 8 bits or none that is whole.

    Of a picture of 8 bits only the header is read.

    Args:
        path: The file.
        megapixels: What a picture may have.
    """
    if may_be_deep(path) is False:
        return None
    try:
        with opened(path, megapixels) as image:
            return extremes_of(values_of(image, path, upright=True)) if is_deep(image) else None
    except UsageError:  # whoever needs the picture says so
        return None


def read_sized_image(path: Path, height: int, width: int, reading: Reading = PLAIN) -> np.ndarray:
    """Decode an image file as ``read_image`` does, and check its size and shape.

    Args:
        path: The file.
        height: The upright height that it should have; 0 where that is not known.
        width: Likewise the width.
        reading: How the pictures of its set are read.

    Raises:
        UsageError: The file cannot be read, has another size or is too thin to be scaled.
    """
    image = read_image(path, reading)
    if height > 0 and width > 0 and image.shape[:2] != (height, width):
        raise UsageError(
            f"{path}: the image has {image.shape[1]} x {image.shape[0]} pixels, "
            f"not the {width} x {height} of its annotation file"
            + turned_text(path, (height, width), reading.upright)
        )
    if max(image.shape[:2]) > MOST_ASPECT * min(image.shape[:2]):
        raise UsageError(
            f"{path}: {image.shape[1]} x {image.shape[0]} pixels are too thin, one side is more "
            f"than {MOST_ASPECT} times the other"
        )
    return image


def prepare_threads() -> None:
    """Load Pillow's formats. Call this before images are read in threads.

    Pillow loads them at its first use, which is not thread-safe: some threads would miss the rarer
    formats.
    """
    from PIL import Image

    Image.init()


def decoded_size(record: ImageRecord) -> int:
    """Bytes of an image as it is decoded; 0 where its header could not be read."""
    return record.height * record.width * CHANNELS


def unreadable(
    records: Sequence[ImageRecord],
    advance: Callable[[int], None] | None = None,
    decoded_bytes: int = DECODED_BYTES,
) -> list[tuple[ImageRecord, str]]:
    """Decode every image, and find those that cannot be used.

    Args:
        records: The images. A size of 0 x 0 is not compared.
        advance: Called, in the caller's thread, with how many more images were looked at.
        decoded_bytes: What the images that are decoded at a time may take.

    Returns:
        The images that are missing, broken, too thin or of another size than their record's, in
        the order of ``records``, each with a message that names the file.
    """
    prepare_threads()
    faults = []
    budget = Budget(decoded_bytes, decoded_size)
    with closing(done_ahead(_fault, records, THREADS, THREADS, budget)) as messages:
        for record, message in zip(records, messages, strict=True):
            if message is not None:
                faults.append((record, message))
            if advance is not None:
                advance(1)
    return faults


def _fault(record: ImageRecord) -> str | None:
    try:
        read_sized_image(record.path, record.height, record.width, record.reading)
    except UsageError as error:
        return str(error)
    return None


def image_size(path: Path, upright: bool = True, megapixels: int | None = None) -> tuple[int, int]:
    """Read an image's height and width, upright or as it is stored, from its header alone.

    Args:
        path: The file.
        upright: Whether to turn it as its EXIF orientation says.
        megapixels: Refuse a picture that has more, as whoever decodes it does.

    Raises:
        UsageError: The file is missing, has no image header, or is too large.
    """
    with opened(path, megapixels) as image:
        return size_of(image, upright)


def header_size(path: Path, upright: bool = True) -> tuple[int, int]:
    """An image's height and width as `image_size` reads them; 0 and 0 where it cannot."""
    try:
        return image_size(path, upright)
    except UsageError:  # the stage that loads it sets it aside
        return 0, 0


def image_orientation(path: Path) -> int:
    """An image's EXIF orientation, from its header alone; 1 where it has none or no header."""
    try:
        with opened(path) as image:
            return orientation_of(image)
    except UsageError:
        return 1


def has_frames(path: Path) -> bool:
    """Whether an image file has several frames or pages, of which the first is read.

    The second picture in a photograph of a telephone (MPO) is of the same scene and does not count.
    """
    try:
        with opened(path) as image:
            return image.format != "MPO" and bool(getattr(image, "is_animated", False))
    except UsageError:
        return False


def turned_text(path: Path, size: tuple[int, int], upright: bool) -> str:
    """What a message of another size adds where an EXIF orientation explains it; else nothing.

    Args:
        path: The image.
        size: The height and width that it should have.
        upright: Whether it was turned upright.
    """
    if image_size(path, not upright) != size:
        return ""
    orientation = image_orientation(path)
    if upright:
        return (
            f"; those are its sides as stored, before its EXIF orientation {orientation} turns it: "
            "labels drawn on the stored picture need data.exif: ignore"
        )
    return (
        f"; those are its sides once its EXIF orientation {orientation} turned it: labels drawn on "
        "the upright picture need data.exif: upright"
    )
