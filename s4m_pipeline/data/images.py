"""Reading image files into pixels, strictly: what cannot be read whole is an error. No torch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from s4m_pipeline.errors import UsageError

EXIF_ORIENTATION = 0x0112
TURNED = frozenset({5, 6, 7, 8})
"""EXIF orientations that swap height and width."""


def read_image(path: Path) -> np.ndarray:
    """Decode an image file, turned upright as its EXIF orientation says.

    Args:
        path: The file.

    Returns:
        uint8 array (height, width, 3), RGB.

    Raises:
        UsageError: The file is missing, unreadable, no image, truncated or broken; the message
            names it.
    """
    try:
        with Image.open(path) as opened:
            upright = ImageOps.exif_transpose(opened)
            return np.array(_to_rgb(upright), dtype=np.uint8)
    except FileNotFoundError as error:
        raise UsageError(f"{path}: no such image") from error
    except (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError) as error:
        raise UsageError(f"{path}: not a readable image ({_reason(error)})") from error


def image_size(path: Path) -> tuple[int, int]:
    """Read an image's height and width, upright, from its header alone.

    Raises:
        UsageError: The file is missing or has no image header.
    """
    try:
        with Image.open(path) as opened:
            width, height = opened.size
            turned = opened.getexif().get(EXIF_ORIENTATION) in TURNED
    except FileNotFoundError as error:
        raise UsageError(f"{path}: no such image") from error
    except (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError) as error:
        raise UsageError(f"{path}: not a readable image ({_reason(error)})") from error
    return (width, height) if turned else (height, width)


def _to_rgb(image: Image.Image) -> Image.Image:
    """Bring any mode to 8-bit RGB: 16-bit grey keeps its upper byte, transparency turns black."""
    if image.mode.startswith("I;16") or image.mode == "I":
        values = np.asarray(image).astype(np.int64)
        shift = 8 if values.max(initial=0) > 255 else 0
        return Image.fromarray((values >> shift).clip(0, 255).astype(np.uint8)).convert("RGB")
    return image.convert("RGB")


def _reason(error: Exception) -> str:
    """Shorten an error to one line."""
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
