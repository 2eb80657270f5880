"""Prints of pictures: short codes by which the same picture is found again. No torch.

The perceptual code is that of the discrete cosine transform: the picture in grey, 32 x 32, its 63
lowest frequencies but the mean, each above or below their median. Resizing and compression move
few of these bits; what the code only suggests, ``alike`` decides on the pixels.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from s4m_pipeline.data.images import read_extremes, read_image
from s4m_pipeline.data.reading import PLAIN, Reading
from s4m_pipeline.errors import UsageError

SIDE = 32
FREQUENCIES = 8
BITS = FREQUENCIES * FREQUENCIES - 1
FLAT = 2.0
"""Grey levels; a picture that varies less has no code worth comparing."""
COMPARED_SIDE = 64
"""Pixels; longer side of the size at which two pictures are compared."""
MOST_DIFFERENCE = 25.0
"""Mean absolute difference of two pictures that are alike, in levels of 255."""
LEAST_CORRELATION = 0.97
"""Correlation of their grey values."""
ASPECT_TOLERANCE = 0.03
NOTHING = (0, 255)
"""Values that, where a picture has no other, show nothing: black and white."""


@dataclass(frozen=True, slots=True)
class Print:
    """A picture's codes.

    Attributes:
        name: What the picture is called.
        path: Its file.
        file: Digest of the file's bytes; empty where it shows nothing: any two black pictures are
            alike.
        pixels: Digest of size and decoded pixels; empty where they show nothing.
        code: The perceptual code, 8 bytes; empty where the picture is flat.
        reading: How it was read.
    """

    name: str
    path: Path
    file: bytes
    pixels: bytes
    code: bytes
    reading: Reading | None = None


def take_print(
    name: str, path: Path, reading: Reading | None = None
) -> tuple[Print, tuple[int, int]]:
    """Decode an image file and take its print.

    Args:
        name: What to call the picture.
        path: The file.
        reading: How the pictures of its set are read; None for this one by itself.

    Returns:
        The print, and the picture's height and width in pixels.

    Raises:
        UsageError: The file is missing or cannot be decoded.
    """
    picture = read_image(path, reading)
    try:
        file = _digest(path.read_bytes())
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror or error}") from error
    height, width = picture.shape[:2]
    pixels = _digest(f"{height} {width} ".encode() + picture.tobytes())
    if picture.min() == picture.max() and picture.min() in NOTHING:
        most = (reading or PLAIN).megapixels
        stored = read_extremes(path, most)  # of more than 8 bits, it may hold several values
        pixels, file = b"", file if stored and stored.low < stored.high else b""
    taken = Print(name, path, file, pixels, perceptual_code(picture), reading)
    return taken, (height, width)


def perceptual_code(picture: np.ndarray) -> bytes:
    """Take a picture's perceptual code.

    Args:
        picture: uint8 array (height, width, 3), RGB.

    Returns:
        8 bytes, whose last bit is not used; or none where the picture is flat.
    """
    grey = Image.fromarray(picture).convert("L").resize((SIDE, SIDE), Image.Resampling.BOX)
    values = np.asarray(grey, np.float64)
    if values.std() < FLAT:
        return b""
    basis = _cosines()
    low = (basis @ values @ basis.T).ravel()[1:]
    return np.packbits(low > np.median(low)).tobytes()


def code_signs(codes: list[bytes]) -> np.ndarray:
    """Unpack codes to float32 (pictures, 63) of -1 and 1: rows multiply to 63 - 2 x distance."""
    packed = np.frombuffer(b"".join(codes), np.uint8).reshape(len(codes), -1)
    return np.unpackbits(packed, axis=1)[:, :BITS].astype(np.float32) * 2 - 1


def alike(first: Path, second: Path, reading: Reading | None = None) -> bool:
    """Decide on the pixels whether two files show the same picture, size and compression aside.

    Both are brought to the smaller one's size, and to no more than 64 pixels. They are alike when
    their shapes, their colours on average and the course of their grey values agree.
    """
    pictures = [Image.fromarray(read_image(path, reading)) for path in (first, second)]
    (w1, h1), (w2, h2) = (picture.size for picture in pictures)
    rounding = max(w1, h1, w2, h2)  # one pixel more or less on a small picture's side
    if abs(w1 * h2 - w2 * h1) > max(rounding, ASPECT_TOLERANCE * max(w1 * h2, w2 * h1)):
        return False
    width, height = min(w1, w2), min(h1, h2)
    scale = min(1.0, COMPARED_SIDE / max(width, height))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    a, b = (np.asarray(p.resize(size, Image.Resampling.BOX), np.float64) for p in pictures)
    if np.abs(a - b).mean() > MOST_DIFFERENCE:
        return False
    return _correlation(a.mean(2), b.mean(2)) >= LEAST_CORRELATION


def _correlation(a: np.ndarray, b: np.ndarray) -> float:
    a, b = a - a.mean(), b - b.mean()
    scale = float(np.sqrt(np.square(a).sum() * np.square(b).sum()))
    return float((a * b).sum()) / scale if scale else 0.0


def _cosines() -> np.ndarray:
    """The lowest rows of the cosine transform: (frequencies, side)."""
    place = np.arange(SIDE) + 0.5
    return np.cos(np.pi / SIDE * np.arange(FREQUENCIES)[:, None] * place)


def _digest(content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=16).digest()
