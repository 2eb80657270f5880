"""Random access to the structure table, one image at a time, from the disk.

A row holds up to a megabyte, and an open file takes some kilobytes a row. Each data worker keeps an
index of the image ids, 20 bytes an image, and a few open files; opening one takes a millisecond.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from s4m_pipeline.artifacts.table_checks import check_rows
from s4m_pipeline.artifacts.table_file import read_in_groups
from s4m_pipeline.artifacts.tables import table_files
from s4m_pipeline.errors import ArtifactError

OPEN_FILES = 8
"""How many files of a table stay open."""
COLUMNS = ["grid", "height", "width", "points", "similarity", "scale", "offset"]


@dataclass(slots=True)
class StructureRow:
    """The structural targets of one image.

    Attributes:
        points: float32 (P, 2), x and y of pixels of the original image (whole numbers); the first
            half is drawn from the union of the masks, where that is large enough.
        similarity: uint8 (P, grid, grid), one map a point over the whole image; the value is
            ``offset + scale * similarity``.
        scale: float32 (P,).
        offset: float32 (P,).
        height: The original image's height in pixels.
        width: The original image's width in pixels.
    """

    points: np.ndarray
    similarity: np.ndarray
    scale: np.ndarray
    offset: np.ndarray
    height: int
    width: int


class StructureStore:
    """The structure table of an artifact, read row by row.

    Args:
        folder: The artifact's folder, with ``structure/*.parquet`` in it.

    Raises:
        ArtifactError: There is no structure table, or a file of it is damaged.
    """

    def __init__(self, folder: Path) -> None:
        self._files = table_files(folder, "structure")
        if not self._files:
            raise ArtifactError(f"{folder}: no structural targets in it")
        self._open: OrderedDict[int, pq.ParquetFile] = OrderedDict()
        self._checked: set[int] = set()
        self._pid = os.getpid()
        parts = [_places(path, number) for number, path in enumerate(self._files)]
        ids, places = (np.concatenate(side) for side in zip(*parts, strict=True))
        order = np.argsort(ids, kind="stable")
        last = np.append(ids[order][1:] != ids[order][:-1], True)[: len(ids)]
        self._ids, self._places = ids[order][last], places[order][last]

    def _file(self, number: int) -> pq.ParquetFile:
        if self._pid != os.getpid():  # a forked worker opens files of its own
            self._open, self._pid = OrderedDict(), os.getpid()
        if number not in self._open:
            while len(self._open) >= OPEN_FILES:
                self._open.popitem(last=False)  # not closed, as a reader may be at it in a thread
            self._open[number] = pq.ParquetFile(self._files[number], memory_map=True)
        self._open.move_to_end(number)
        return self._open[number]

    def _place(self, image_id: int) -> tuple[int, int, int] | None:
        """An image's file, row group and row in the group."""
        at = int(np.searchsorted(self._ids, image_id))
        if at == len(self._ids) or self._ids[at] != image_id:
            return None
        number, group, row = self._places[at].tolist()
        return number, group, row

    def __contains__(self, image_id: int) -> bool:
        """Whether there are targets of an image."""
        return self._place(image_id) is not None

    def __len__(self) -> int:
        """Number of images with targets."""
        return len(self._ids)

    def read(self, image_id: int) -> StructureRow | None:
        """Read an image's targets; None when there are none.

        Raises:
            ArtifactError: The row is damaged.
        """
        place_of_row = self._place(image_id)
        if place_of_row is None:
            return None
        number, group, row = place_of_row
        try:
            batches = self._file(number).iter_batches(
                batch_size=1, row_groups=[group], columns=COLUMNS, use_threads=False
            )
            for place, batch in enumerate(batches):
                if place == row:
                    if image_id not in self._checked:
                        check_rows(self._files[number], batch)
                        self._checked.add(image_id)
                    return _decode(batch)
        except (OSError, ValueError, OverflowError, LookupError, pa.ArrowException) as error:
            raise ArtifactError(
                f"{self._files[number]}: image {image_id}'s row is damaged ({error})"
            ) from error
        raise ArtifactError(f"{self._files[number]}: image {image_id}'s row is missing")


@lru_cache(maxsize=8)
def open_structure(folder: str) -> StructureStore:
    """Open an artifact's structure table once a process."""
    return StructureStore(Path(folder))


def _places(path: Path, number: int) -> tuple[np.ndarray, np.ndarray]:
    """The ids in a file, int64 (N,), and where they are: file, row group and row, int32 (N, 3)."""
    rows, counts = read_in_groups(path, "structure", ["image_id"])
    ids = rows["image_id"].to_numpy()
    places = np.empty((len(ids), 3), np.int32)
    places[:, 0] = number
    places[:, 1] = np.repeat(np.arange(len(counts)), counts)
    places[:, 2] = np.arange(len(ids)) - np.repeat(counts.cumsum() - counts, counts)
    return ids, places


def _decode(batch: pa.RecordBatch) -> StructureRow:
    row = {name: batch.column(name)[0] for name in COLUMNS}
    grid = row["grid"].as_py()
    points = row["points"].values.to_numpy(zero_copy_only=False).astype(np.float32)
    similarity = np.frombuffer(row["similarity"].as_buffer(), np.uint8)
    return StructureRow(
        points=points.reshape(-1, 2),
        similarity=similarity.reshape(len(points) // 2, grid, grid).copy(),
        scale=row["scale"].values.to_numpy(zero_copy_only=False).astype(np.float32),
        offset=row["offset"].values.to_numpy(zero_copy_only=False).astype(np.float32),
        height=row["height"].as_py(),
        width=row["width"].as_py(),
    )
