"""TIFF files of kinds that Pillow does not write, by the standard's tags."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np

SHORT, LONG = 3, 4
SIZES = {SHORT: "H", LONG: "I"}


def write_tiff(
    path: Path,
    values: np.ndarray,
    *,
    photometric: int,
    sample_format: int = 1,
    planes: bool = False,
    extra: int | None = None,
    order: str = "<",
) -> Path:
    """Write an uncompressed TIFF.

    Args:
        path: The file.
        values: (H, W) or (H, W, C).
        photometric: 0 where white is 0, 1 where black is, 2 for RGB.
        sample_format: 1 unsigned, 2 signed, 3 floats.
        planes: One plane a channel after the other (PlanarConfiguration 2).
        extra: What a channel beyond the colours is: 0 anything, 1 associated alpha, 2 alpha.
        order: Of the bytes, ``<`` or ``>``.
    """
    height, width = values.shape[:2]
    channels = 1 if values.ndim == 2 else values.shape[2]
    stored = np.moveaxis(values, 2, 0) if planes else values
    data = np.ascontiguousarray(stored.astype(values.dtype.newbyteorder(order))).tobytes()
    strips = channels if planes else 1
    tags = {
        256: (SHORT, [width]),
        257: (SHORT, [height]),
        258: (SHORT, [values.dtype.itemsize * 8] * channels),
        259: (SHORT, [1]),
        262: (SHORT, [photometric]),
        273: (LONG, [0] * strips),  # where the strips begin, known below
        277: (SHORT, [channels]),
        278: (SHORT, [height]),
        279: (LONG, [len(data) // strips] * strips),
        284: (SHORT, [2 if planes else 1]),
        339: (SHORT, [sample_format] * channels),
    }
    if extra is not None:
        tags[338] = (SHORT, [extra])
    head = 8 + 2 + 12 * len(tags) + 4
    far = {tag: _bytes(kind, numbers, order) for tag, (kind, numbers) in tags.items()}
    start = head + sum(len(raw) for raw in far.values() if len(raw) > 4)
    tags[273] = (LONG, [start + place * len(data) // strips for place in range(strips)])
    entries, beyond = b"", b""
    for tag in sorted(tags):
        kind, numbers = tags[tag]
        raw = _bytes(kind, numbers, order)
        entries += struct.pack(order + "HHI", tag, kind, len(numbers))
        if len(raw) > 4:
            entries += struct.pack(order + "I", head + len(beyond))
            beyond += raw
        else:
            entries += raw.ljust(4, b"\0")
    magic = (b"II" if order == "<" else b"MM") + struct.pack(order + "HI", 42, 8)
    count = struct.pack(order + "H", len(tags))
    path.write_bytes(magic + count + entries + b"\0" * 4 + beyond + data)
    return path


def _bytes(kind: int, numbers: list[int], order: str) -> bytes:
    return struct.pack(f"{order}{len(numbers)}{SIZES[kind]}", *numbers)
