"""Pictures of more than 8 bits a channel: found by their header, and their values read. No torch.

Pillow reads one channel of 16 or 32 bits and of floats. Of colours with 16 bits it keeps the upper
bytes alone, without a word, so these are read by OpenCV once Pillow has found them whole.

``s4m status`` looks at headers and must answer at once, so the functions that need NumPy, Pillow
or OpenCV import them themselves, and most formats are told by their first bytes.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from s4m_pipeline.data.exif import decoded, orientation_of, size_of, upright_values
from s4m_pipeline.data.levels import Extremes
from s4m_pipeline.data.misread import (
    depth_of_jpeg_2000,
    inverted_values,
    is_inverted,
    is_unsigned,
)

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image

HEADER = 32
"""Bytes at the start of a file that are looked at."""
PNG = b"\x89PNG\r\n\x1a\n"
PNG_DEPTH = 24
"""Where a PNG says how many bits a channel has."""
EIGHT_BITS = (b"\xff\xd8\xff", b"GIF8", b"BM")
"""How files begin that never have more than 8 bits a channel: JPEG, GIF and BMP; WebP is a RIFF."""
DEEP_MODES = ("I", "F")
RARE = 0.001
"""Share of a picture's values that may be odd ones, such as a sensor's hot pixels."""
MOST_SORTED = 1_000_000
"""Values among which the odd ones are found."""


def may_be_deep(path: Path) -> bool | None:
    """Tell by a file's first bytes whether it has more than 8 bits; None where Pillow must look.

    A file that cannot be read has no depth.
    """
    try:
        with path.open("rb") as stream:
            start = stream.read(HEADER)
    except (OSError, ValueError):
        return False
    if start.startswith(EIGHT_BITS) or (start[:4] == b"RIFF" and start[8:12] == b"WEBP"):
        return False
    if start.startswith(PNG) and len(start) > PNG_DEPTH:
        return start[PNG_DEPTH] == 16
    return None


def is_deep(image: Image.Image) -> bool:
    """Whether a picture that Pillow opened, and has not decoded, has more than 8 bits."""
    return image.mode in DEEP_MODES or image.mode.startswith("I;16") or _has_deep_colours(image)


def _has_deep_colours(image: Image.Image) -> bool:
    """Whether Pillow would keep only the upper bytes of the channels."""
    if image.mode in DEEP_MODES or image.mode.startswith("I;"):
        return False
    if depth_of_jpeg_2000(image) > 8:
        return True
    for tile in getattr(image, "tile", ()):
        parts = tile[3] if isinstance(tile[3], tuple) else (tile[3],)
        if any(isinstance(part, str) and ";16" in part for part in parts):
            return True
    return False


def values_of(image: Image.Image, path: Path, upright: bool) -> np.ndarray:
    """The values of a picture of more than 8 bits: (H, W), or (H, W, 3) RGB.

    Args:
        image: The picture, opened and not yet decoded.
        path: Its file.
        upright: Whether to turn it as its EXIF orientation says.

    Raises:
        OSError: It is broken.
        ValueError: It cannot be read with all its bits, or holds values that are no numbers.
    """
    import numpy as np

    if _has_deep_colours(image):
        return _colours_of(image, path, upright)
    unsigned, inverted = is_unsigned(image), is_inverted(image)
    values = np.asarray(decoded(image, upright))
    if unsigned:
        values = values.view(np.uint32)
    if inverted:
        values = inverted_values(values)
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise ValueError("it holds values that are no numbers (NaN or infinity)")
    return values


def _colours_of(image: Image.Image, path: Path, upright: bool) -> np.ndarray:
    """The values of colours with 16 bits, which Pillow would cut to their upper bytes."""
    import cv2
    import numpy as np

    orientation, size = orientation_of(image), size_of(image, upright=False)
    if image.format == "TIFF" and orientation != 1:  # OpenCV turns some of these and fails on some
        raise ValueError(
            "it is a TIFF with 16 bits a channel and an EXIF orientation; save it as "
            "PNG, or upright"
        )
    image.load()  # Pillow alone says so where a file is cut off
    try:
        values = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error:  # such as more pixels than its own limit of 2^30
        values = None
    if values is None or values.dtype != np.uint16 or values.shape[:2] != size:
        raise ValueError("its 16 bits a channel cannot be read; save it as PNG or with 8 bits")
    values = values.reshape(*size, -1)
    values = values[..., 0] if values.shape[2] < 3 else values[..., 2::-1]
    return np.ascontiguousarray(upright_values(values, orientation) if upright else values)


def extremes_of(values: np.ndarray) -> Extremes:
    """What of a picture's stored values decides the levels."""
    import numpy as np

    some = values.ravel()[:: max(1, values.size // MOST_SORTED)]
    most_low, most_high = np.quantile(some, [RARE, 1 - RARE]).tolist()
    whole = values.dtype.kind != "f" or bool((values == np.rint(values)).all())
    return Extremes(float(values.min()), float(values.max()), most_low, most_high, whole)
