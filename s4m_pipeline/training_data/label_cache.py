"""Training labels in an Arrow file that all data workers map into memory. No torch.

The file is a cache of a refine artifact's labels: it is made where it is missing or belongs to
another state of the artifact, and can be deleted at any time.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from s4m_pipeline.artifacts.digest_beside import has_its_digest, write_digest
from s4m_pipeline.artifacts.file_facts import state_of
from s4m_pipeline.artifacts.fingerprint import digest_of
from s4m_pipeline.artifacts.manifest import MANIFEST, read_manifest
from s4m_pipeline.artifacts.plain_files import clear_the_way
from s4m_pipeline.artifacts.tables import table_files
from s4m_pipeline.data.image_set import Category, ImageRecord
from s4m_pipeline.errors import ArtifactError, UsageError
from s4m_pipeline.training_data.refined_labels import LABELS, label_batches

LAYOUT = 1
"""Version of the file's layout."""
_KEY = b"labels_of"


class ImageLabels(NamedTuple):
    """The labels of one image, N of them; the arrays belong to whoever asked.

    Attributes:
        labels: int32 (N,), place of each one's class in the category list.
        rles: COCO's compressed RLE counts.
        boxes: float64 (N, 4), x, y, width, height in pixels.
        class_probs: float32 (N, K), the teacher's class distributions in label order; None where
            one is unknown.
        quality: float64 (N,), the teacher's score times its mask's agreement with the segmenter's.
        ignored: bool (N,), which are no labels but regions of doubt.
    """

    labels: np.ndarray
    rles: list[bytes]
    boxes: np.ndarray
    class_probs: np.ndarray | None
    quality: np.ndarray
    ignored: np.ndarray


@dataclass(frozen=True, slots=True)
class _Part:
    """Views of one record batch's columns; ``rows`` int64 (images + 1,) says where each begins."""

    rows: np.ndarray
    labels: np.ndarray
    boxes: np.ndarray
    quality: np.ndarray
    ignored: np.ndarray
    rle_ends: np.ndarray
    rles: memoryview
    prob_rows: np.ndarray
    probs: np.ndarray


class LabelCache:
    """Labels by image, read at random from a mapped file.

    Nothing is kept in memory but views of the file, 8 bytes an image, and its pages are shared by
    all processes that have it open. A copy that goes to another process opens the file there.

    Args:
        source: The file, or its bytes.

    Raises:
        ArtifactError: It is no such file.
    """

    def __init__(self, source: Path | pa.Buffer) -> None:
        self._source = source
        try:
            opened = pa.BufferReader(source) if isinstance(source, pa.Buffer) else _mapped(source)
            reader = pa.ipc.open_file(opened)
            batches = [reader.get_batch(number) for number in range(reader.num_record_batches)]
        except (OSError, pa.ArrowException) as error:
            raise ArtifactError(f"{source}: no label cache ({error})") from error
        if not reader.schema.equals(LABELS):
            raise ArtifactError(f"{source}: no label cache (other columns)")
        self.key: str = (reader.schema.metadata or {}).get(_KEY, b"").decode()
        self._batches = batches
        self._parts = [_part(batch) for batch in batches]
        self._starts = np.cumsum([0, *(batch.num_rows for batch in batches)])

    def __reduce__(self) -> tuple[Any, ...]:
        """Open the file anew in another process."""
        return LabelCache, (self._source,)

    def __len__(self) -> int:
        """Number of images with labels."""
        return int(self._starts[-1])

    def images(self) -> Iterator[tuple[int, str]]:
        """Id and file name of each image with labels; its number in this order is its place."""
        for batch in self._batches:
            yield from zip(
                batch["image_id"].to_pylist(), batch["file_name"].to_pylist(), strict=True
            )

    def check_images(self, images: Sequence[ImageRecord]) -> None:
        """Check that the labels are of these images.

        Raises:
            UsageError: A labelled image is not among them, or has another file name.
        """
        names = {image.id: image.file_name for image in images}
        for image_id, name in self.images():
            if names.get(image_id) != name:
                raise UsageError(
                    f"refined labels are of other images: image {image_id} is {name} there and "
                    f"{names.get(image_id, 'missing')} in the unlabelled set"
                )

    def read(self, place: int) -> ImageLabels:
        """Read the labels of the image at a place of ``images()``."""
        number = int(np.searchsorted(self._starts, place, side="right")) - 1
        part, row = self._parts[number], place - int(self._starts[number])
        start, end = part.rows[row : row + 2].tolist()
        ends = part.rle_ends[start : end + 1].tolist()
        low, high = part.prob_rows[row : row + 2].tolist()
        return ImageLabels(
            part.labels[start:end].copy(),
            [bytes(part.rles[a:b]) for a, b in pairwise(ends)],
            part.boxes[start:end].astype(np.float64),
            part.probs[low:high].reshape(end - start, -1).copy() if high > low else None,
            part.quality[start:end].copy(),
            part.ignored[start:end].astype(bool),
        )


def open_labels(
    artifact: Path,
    categories: Sequence[Category],
    ignore_score: float | None = None,
    path: Path | None = None,
) -> LabelCache:
    """Open the label cache of a refine artifact, and make it first where there is none of it.

    It is written under a name of its own and renamed, so that a file that is there is whole and
    processes that make it at once do not disturb each other.

    Args:
        artifact: The artifact's folder.
        categories: The classes in label order; the artifact's may be in another order.
        ignore_score: Least score of uncertain rows that are read as ignored ones; None reads none
            (see ``label_batches``).
        path: The cache's file; None keeps the labels in memory.

    Raises:
        UsageError: The artifact has other categories.
        ArtifactError: A file of the artifact is damaged or of another format version.
    """
    batches = label_batches(artifact, categories, ignore_score)
    if path is None:
        sink = pa.BufferOutputStream()
        _write(sink, batches, "")
        return LabelCache(sink.getvalue())
    key = _key(artifact, categories, ignore_score)
    cache = _usable(path, key)
    if cache is None:
        _write_file(path, batches, key)
        cache = LabelCache(path)
    return cache


def _mapped(path: Path) -> pa.MemoryMappedFile:
    return pa.memory_map(str(path), "r")


def _usable(path: Path, key: str) -> LabelCache | None:
    """The cache in a file; None where it is missing, damaged or another artifact's."""
    if not has_its_digest(path):  # Arrow looks at hardly any of its bytes
        return None
    try:
        cache = LabelCache(path)
    except ArtifactError:
        return None
    return cache if cache.key == key else None


def _key(artifact: Path, categories: Sequence[Category], ignore_score: float | None) -> str:
    """Digest of what the labels are made of: the artifact, its files' state, and how it is read."""
    known = None
    if (artifact / MANIFEST).is_file():
        manifest = read_manifest(artifact)
        known = [manifest.fingerprint, manifest.content]
    files = [(path.name, *state_of(path)) for path in table_files(artifact, "refined")]
    classes = [(category.id, category.name) for category in categories]
    return digest_of([LAYOUT, known, files, classes, ignore_score])


def _write_file(path: Path, batches: Iterator[pa.RecordBatch], key: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with clear_the_way(partial).open("wb") as stream:
            _write(stream, batches, key)
        partial.replace(path)
        write_digest(path)
    finally:
        partial.unlink(missing_ok=True)


def _write(sink: Any, batches: Iterator[pa.RecordBatch], key: str) -> None:
    schema = LABELS.with_metadata({_KEY: key})
    with pa.ipc.new_file(sink, schema) as writer:
        for batch in batches:
            writer.write_batch(batch.replace_schema_metadata(schema.metadata))


def _part(batch: pa.RecordBatch) -> _Part:
    """Take numpy's views of a batch's buffers."""
    rles, probs = batch["rle"], batch["class_probs"]
    _, ends, data = rles.values.buffers()
    return _Part(
        rows=rles.offsets.to_numpy(),
        labels=batch["label"].values.to_numpy(),
        boxes=batch["box"].values.to_numpy().reshape(-1, 4),
        quality=batch["quality"].values.to_numpy(),
        ignored=batch["ignored"].values.to_numpy(),
        rle_ends=np.frombuffer(ends, np.int64),
        rles=memoryview(b"" if data is None else data),
        prob_rows=probs.offsets.to_numpy(),
        probs=probs.values.to_numpy(),
    )
