"""Random access to the structure table, one image at a time, from the disk.

A row holds up to a megabyte; nothing but the index of image ids is kept in memory.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from s4m_pipeline.artifacts.tables import check_schema, table_files
from s4m_pipeline.errors import ArtifactError

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
        self._open: dict[int, pq.ParquetFile] = {}
        self._pid = os.getpid()
        self._places: dict[int, tuple[int, int, int]] = {}
        for number, path in enumerate(self._files):
            check_schema(path, "structure")
            self._index(number)

    def _index(self, number: int) -> None:
        try:
            opened = self._file(number)
            for group in range(opened.num_row_groups):
                ids = opened.read_row_group(group, columns=["image_id"], use_threads=False)
                for row, image_id in enumerate(ids["image_id"].to_pylist()):
                    self._places[image_id] = (number, group, row)
        except (OSError, pa.ArrowException) as error:
            raise ArtifactError(f"{self._files[number]}: damaged ({error})") from error

    def _file(self, number: int) -> pq.ParquetFile:
        if self._pid != os.getpid():  # a forked worker opens files of its own
            self._open, self._pid = {}, os.getpid()
        if number not in self._open:
            self._open[number] = pq.ParquetFile(self._files[number], memory_map=True)
        return self._open[number]

    def __contains__(self, image_id: int) -> bool:
        """Whether there are targets of an image."""
        return image_id in self._places

    def __len__(self) -> int:
        """Number of images with targets."""
        return len(self._places)

    def read(self, image_id: int) -> StructureRow | None:
        """Read an image's targets; None when there are none.

        Raises:
            ArtifactError: The row is damaged.
        """
        if image_id not in self._places:
            return None
        number, group, row = self._places[image_id]
        try:
            batches = self._file(number).iter_batches(
                batch_size=1, row_groups=[group], columns=COLUMNS, use_threads=False
            )
            for place, batch in enumerate(batches):
                if place == row:
                    return _decode(batch)
        except (OSError, ValueError, pa.ArrowException) as error:
            raise ArtifactError(
                f"{self._files[number]}: image {image_id}'s row is damaged ({error})"
            ) from error
        raise ArtifactError(f"{self._files[number]}: image {image_id}'s row is missing")


@lru_cache(maxsize=8)
def open_structure(folder: str) -> StructureStore:
    """Open an artifact's structure table once a process."""
    return StructureStore(Path(folder))


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
