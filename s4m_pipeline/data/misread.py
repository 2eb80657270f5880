"""Kinds of pictures that Pillow opens and reads otherwise than they are stored. No torch.

Each is either read by what its header says, or refused by name.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image

BITS, PHOTOMETRIC, PLANES, EXTRA, SAMPLES = 258, 262, 284, 338, 339
"""Tags of a TIFF: bits of a sample, meaning of 0, planes, further channels, kind of number."""
WHITE_IS_ZERO, APART, ASSOCIATED_ALPHA, UNSIGNED, SIGNED = 0, 2, 1, 1, 2
SIZE_MARKER = b"\xff\x4f\xff\x51"
"""How the code stream of a JPEG 2000 begins."""
DEPTH_PLACE = 42
"""Where the bits of its first channel stand, from there."""
START = 1 << 16
"""Bytes at the start of a JPEG 2000 in which its code stream begins."""


def misread(image: Image.Image) -> str:
    """Why a picture that Pillow opened cannot be read rightly; empty where it can."""
    if image.format != "TIFF":
        return ""
    bits, signed = max(_tag(image, BITS)), SIGNED in _tag(image, SAMPLES)
    if signed and bits == 8:
        return "it is a TIFF with signed values of 8 bits; save it with 16 bits"
    if bits <= 8:
        return ""
    if APART in _tag(image, PLANES) and image.mode not in ("I", "F", "I;16"):
        return "it is a TIFF with more than 8 bits whose channels lie apart; save it as PNG"
    if ASSOCIATED_ALPHA in _tag(image, EXTRA):
        return "it is a TIFF with more than 8 bits and colours times alpha; save it without alpha"
    if WHITE_IS_ZERO in _tag(image, PHOTOMETRIC) and image.mode != "I;16":
        return "it is a TIFF whose white is 0; save it with black as 0"
    return ""


def is_inverted(image: Image.Image) -> bool:
    """Whether white is 0 in a picture of 16 bits, which Pillow passes over."""
    inverted = image.format == "TIFF" and WHITE_IS_ZERO in _tag(image, PHOTOMETRIC)
    return inverted and image.mode == "I;16"


def is_unsigned(image: Image.Image) -> bool:
    """Whether values are unsigned with 32 bits, which Pillow takes for signed ones."""
    if image.format != "TIFF" or image.mode != "I":
        return False
    return max(_tag(image, BITS)) == 32 and _tag(image, SAMPLES) in ((), (UNSIGNED,))


def inverted_values(values: np.ndarray) -> np.ndarray:
    """Values of 16 bits whose white is 0, so that black is."""
    inverted: np.ndarray = 65535 - values
    return inverted


def depth_of_jpeg_2000(image: Image.Image) -> int:
    """Bits of a channel of a JPEG 2000 that is opened and not yet decoded; else 0."""
    stream = getattr(image, "fp", None)
    if image.format != "JPEG2000" or stream is None:
        return 0
    place = stream.tell()
    stream.seek(0)
    start = stream.read(START)
    stream.seek(place)
    found = start.find(SIZE_MARKER)
    if found < 0 or len(start) <= found + DEPTH_PLACE:
        return 0
    return int(start[found + DEPTH_PLACE] & 0x7F) + 1


def _tag(image: Image.Image, number: int) -> tuple[int, ...]:
    """The numbers of a TIFF's tag; for the bits of a sample, which default to 1, at least one."""
    value = getattr(image, "tag_v2", {}).get(number, (1,) if number == BITS else ())
    return value if isinstance(value, tuple) else (value,)
