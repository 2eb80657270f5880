"""Opening picture files, and how large one may be before it is decoded. No torch.

A few bytes can ask for a canvas of gigabytes. So the size that a file's header names is compared
with a limit before anything is decoded. Of several frames or pages in a file the first is read.

Stages import this file and ``s4m status`` must answer at once, so the functions that need Pillow
import it themselves.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from s4m_pipeline.config_data import DRAWN, MOST_MEGAPIXELS
from s4m_pipeline.data.misread import misread
from s4m_pipeline.errors import S4MError, UsageError

if TYPE_CHECKING:
    from PIL import Image

MEGAPIXEL = 1_000_000


@contextmanager
def opened(path: Path, megapixels: int | None = None) -> Iterator[Image.Image]:
    """Open an image file; what goes wrong with it is a UsageError that names it.

    Args:
        path: The file.
        megapixels: Refuse a picture of more, because it is to be decoded; None to look at its
            header alone.

    Raises:
        UsageError: The file is missing, no image, broken, or the picture is too large.
    """
    from PIL import Image

    _let_pass(megapixels or MOST_MEGAPIXELS)
    try:
        with Image.open(path) as image:
            if fault := misread(image):
                raise ValueError(fault)
            if image.format in DRAWN:
                raise ValueError(f"{image.format} is no format of pixels; save it as PNG")
            if megapixels is not None and image.width * image.height > megapixels * MEGAPIXEL:
                raise _too_large(path, f"{image.width} x {image.height} pixels", megapixels)
            yield image
    except FileNotFoundError as error:
        raise UsageError(f"{path}: no such image") from error
    except Image.DecompressionBombError as error:
        raise _too_large(path, "its pixels", megapixels or MOST_MEGAPIXELS) from error
    except (S4MError, MemoryError):
        raise
    except Exception as error:  # Pillow's readers of rare formats raise whatever comes up
        raise UsageError(f"{path}: not a readable image ({_reason(error)})") from error


def _let_pass(megapixels: int) -> None:
    """Raise Pillow's own limit, which holds for pictures inside others too, to ours."""
    from PIL import Image

    if (Image.MAX_IMAGE_PIXELS or 0) < megapixels * MEGAPIXEL:
        Image.MAX_IMAGE_PIXELS = megapixels * MEGAPIXEL
        # it warns from its limit on and refuses from twice its limit on; we refuse from it on
        warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)


def _too_large(path: Path, what: str, megapixels: int) -> UsageError:
    return UsageError(
        f"{path}: {what} are more than the {megapixels:,} megapixels of data.max_megapixels.\n"
        "Raise it if the picture is meant to be so large; reading takes some 12 bytes a pixel."
    )


def _reason(error: Exception) -> str:
    """Shorten an error to one line."""
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
