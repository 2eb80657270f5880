"""EXIF orientations: how a camera was held when it took a picture. No torch.

Pillow turns a TIFF while it decodes it and gives its turned size from the start; of other formats
it gives what is stored. The functions here give the same of all formats.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image

ORIENTATION = 0x0112
TURNED = frozenset({5, 6, 7, 8})
"""Orientations that swap height and width."""
MEANINGS = {
    2: "mirrored",
    3: "upside down",
    4: "mirrored upside down",
    5: "mirrored on its side",
    6: "on its left side",
    7: "mirrored on its other side",
    8: "on its right side",
}
"""How a picture of each orientation is stored, but for 1, which is upright."""


def orientation_of(image: Image.Image) -> int:
    """The orientation of a picture that Pillow opened, and has not decoded; 1 where it has none."""
    orientation = image.getexif().get(ORIENTATION)
    return orientation if orientation in MEANINGS else 1


def size_of(image: Image.Image, upright: bool) -> tuple[int, int]:
    """Height and width of an opened picture, upright or as it is stored."""
    width, height = image.size
    turned_by_pillow = image.format == "TIFF"
    is_turned = orientation_of(image) in TURNED and upright != turned_by_pillow
    return (width, height) if is_turned else (height, width)


def decoded(image: Image.Image, upright: bool) -> Image.Image:
    """Decode an opened picture, upright or as it is stored."""
    from PIL import ImageFile, ImageOps
    from PIL.Image import Transpose

    if isinstance(image, ImageFile.ImageFile):
        # Pillow maps an uncompressed TIFF into memory by its turned size, which scrambles one that
        # lies on its side; without a name it reads the file
        image.filename = ""
    if upright:
        ImageOps.exif_transpose(image, in_place=True)
        return image
    orientation = orientation_of(image)
    image.load()
    if image.format != "TIFF" or orientation == 1:
        return image
    back = {
        2: Transpose.FLIP_LEFT_RIGHT,
        3: Transpose.ROTATE_180,
        4: Transpose.FLIP_TOP_BOTTOM,
        5: Transpose.TRANSPOSE,
        6: Transpose.ROTATE_90,
        7: Transpose.TRANSVERSE,
        8: Transpose.ROTATE_270,
    }
    return image.transpose(back[orientation])


def upright_values(values: np.ndarray, orientation: int) -> np.ndarray:
    """Turn stored values, (H, W) or (H, W, 3), upright."""
    if orientation in TURNED:
        values = values.swapaxes(0, 1)
    rows = slice(None, None, -1 if orientation in (3, 4, 7, 8) else 1)
    columns = slice(None, None, -1 if orientation in (2, 3, 6, 7) else 1)
    return values[rows, columns]
