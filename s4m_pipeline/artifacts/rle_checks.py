"""Whether bytes are masks as COCO's compressed run-length encodings.

A character holds five bits and says whether more follow. The libraries that read encodings trust
that: one that ends in the middle of a number makes them read on beyond its end.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import rlemasklib

LEAST, GREATEST = 48, 111
"""The characters of an encoding, as bytes: those from ``0`` to ``o``."""
MORE = 32
"""The bit of a character, less ``LEAST``, that says that more follow."""


def not_masks(column: Any, pixels: Sequence[int] | None = None) -> np.ndarray:
    """Which values are no encodings of masks of so many pixels.

    Args:
        column: pyarrow's binary array (N,) of COCO's compressed counts, none of them null.
        pixels: Pixels of each mask's image, 0 and more. Without it only the bytes are looked at:
            whether a library can read them without reading on beyond their end.

    Returns:
        bool (N,).
    """
    wrong = _not_encoded(column)
    if pixels is not None:
        rows = zip(column.to_pylist(), pixels, strict=True)
        for place, (text, count) in enumerate(rows):
            wrong[place] = wrong[place] or not _has_pixels(text, count)
    return wrong


def _has_pixels(text: bytes, pixels: int) -> bool:
    try:
        runs = rlemasklib.decompress({"size": [1, pixels], "counts": text})["ucounts"]
    except ValueError:
        return False
    # summed as they are: runs that are below 0 are billions, and do not make up for others
    return int(np.asarray(runs).sum(dtype=np.int64)) == pixels


def _not_encoded(column: Any) -> np.ndarray:
    """bool (N,): which values must not be given to a library."""
    offsets, text = _bytes_of(column)
    wrong = np.zeros(len(column), bool)
    row = np.repeat(np.arange(len(column), dtype=np.int32), np.diff(offsets))
    wrong[row[(text < LEAST) | (text > GREATEST)]] = True
    goes_on = ((text - np.uint8(LEAST)) & MORE) != 0
    last = offsets[1:][np.diff(offsets) > 0] - 1
    wrong[row[last[goes_on[last]]]] = True
    for step in (1, 2, 4):  # eight in a row, too many for a run's 32 bits: pairs of pairs of pairs
        goes_on = goes_on[step:] & goes_on[:-step]
    wrong[row[np.flatnonzero(goes_on)]] = True
    return wrong


def _bytes_of(column: Any) -> tuple[np.ndarray, np.ndarray]:
    """The column's offsets, int64 (N + 1,) from 0, and its bytes, uint8."""
    _, offsets, data = column.buffers()
    own = np.frombuffer(offsets, np.int32)[column.offset : column.offset + len(column) + 1]
    own = own.astype(np.int64)
    if data is None or not len(column):
        return np.zeros(len(column) + 1, np.int64), np.zeros(0, np.uint8)
    return own - own[0], np.frombuffer(data, np.uint8)[own[0] : own[-1]]
