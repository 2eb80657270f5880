"""What changed between two artifacts of refined labels of the same images."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from s4m_pipeline.artifacts.decision import Decision
from s4m_pipeline.artifacts.tables import read_table
from s4m_pipeline.metrics.label_drift import Drift
from s4m_pipeline.metrics.matching import Label

_COLUMNS = ["image_id", "height", "width", "category_id", "score", "mask_rle", "decision"]


def drift_of_artifacts(before: Path, now: Path) -> dict[str, Any]:
    """Compare labels image by image.

    Args:
        before: A refine artifact.
        now: Another one of the same images.

    Returns:
        The figures of `s4m_pipeline.metrics.label_drift.Drift`, and ``images``: how many have
        labels in either.
    """
    old, new = _Labels(before), _Labels(now)
    drift, images = Drift(), sorted(old.places.keys() | new.places.keys())
    for image in images:
        size = (new if image in new.places else old).size(image)
        drift.add(list(old.of(image)), list(new.of(image)), size)
    return {"images": len(images), **drift.figures()}


class _Labels:
    """The labels of an artifact by image; its rows are sorted by image.

    Args:
        folder: The artifact's folder.
    """

    def __init__(self, folder: Path) -> None:
        table = read_table(folder, "refined", _COLUMNS)
        wanted = np.array([d != Decision.DROPPED for d in table["decision"].to_pylist()], bool)
        self._table = table.filter(pa.array(wanted))
        ids = self._table["image_id"].to_numpy()
        changes = np.flatnonzero(ids[1:] != ids[:-1]) + 1
        starts, ends = np.append(0, changes)[: len(ids)], np.append(changes, len(ids))[: len(ids)]
        spans = zip(starts.tolist(), ends.tolist(), strict=True)
        self.places = {int(ids[start]): (start, end) for start, end in spans}

    def of(self, image: int) -> Iterator[Label]:
        """An image's labels."""
        start, end = self.places.get(image, (0, 0))
        for row in self._table.slice(start, end - start).to_pylist():
            yield Label(row["category_id"], row["mask_rle"], row["score"])

    def size(self, image: int) -> tuple[int, int]:
        """Height and width of an image that has labels."""
        start, _ = self.places[image]
        height, width = (self._table[name][start].as_py() for name in ("height", "width"))
        return height, width
