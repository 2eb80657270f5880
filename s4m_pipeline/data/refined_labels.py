"""The pseudo-labels of a refine artifact, as training labels. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from s4m_pipeline.artifacts.tables import categories_of, read_table
from s4m_pipeline.data.image_set import Category, ImageRecord, check_same_categories
from s4m_pipeline.data.segmentation import Box, bbox_areas
from s4m_pipeline.errors import UsageError

TAKEN = ("refined", "kept")
"""The decisions whose rows are labels."""
COLUMNS = [
    "image_id",
    "file_name",
    "height",
    "width",
    "category_id",
    "class_probs",
    "mask_rle",
    "decision",
]


@dataclass(slots=True)
class RefinedRow:
    """A pseudo-label.

    Attributes:
        label: Place of its class in the category list.
        rle: COCO compressed RLE counts.
        bbox: x, y, width, height in pixels.
        class_probs: float32 (K,), the teacher's class distribution in label order, or None.
    """

    label: int
    rle: bytes
    bbox: Box
    class_probs: np.ndarray | None


@dataclass(slots=True)
class RefinedLabels:
    """All pseudo-labels of an artifact.

    Attributes:
        rows: By image id; an image without any has no entry.
        file_names: File name by image id, of the images in ``rows``.
        set_aside: Ids of the images that the artifact's stage could not process.
    """

    rows: dict[int, list[RefinedRow]]
    file_names: dict[int, str]
    set_aside: frozenset[int]

    def check_images(self, images: Sequence[ImageRecord]) -> None:
        """Check that the labels are of these images.

        Raises:
            UsageError: A labelled image is not among them, or has another file name.
        """
        names = {image.id: image.file_name for image in images}
        for image_id, name in self.file_names.items():
            if names.get(image_id) != name:
                raise UsageError(
                    f"refined labels are of other images: image {image_id} is {name} there and "
                    f"{names.get(image_id, 'missing')} in the unlabelled set"
                )


def read_refined(folder: Path, categories: Sequence[Category]) -> RefinedLabels:
    """Read the rows of a refine artifact that were refined or kept.

    Args:
        folder: The artifact's folder.
        categories: The classes in label order; the artifact's may be in another order.

    Raises:
        UsageError: Other categories.
        ArtifactError: A file is damaged or of another format version.
    """
    table = read_table(folder, "refined", columns=COLUMNS)
    found = RefinedLabels({}, {}, _set_aside(folder))
    if not table.num_rows:
        return found
    own = [Category(int(c["id"]), str(c["name"])) for c in categories_of(table)]
    check_same_categories(categories, own, "the run", str(folder))
    place = {category.id: number for number, category in enumerate(own)}
    order = np.array([place[category.id] for category in categories])
    label = {category.id: number for number, category in enumerate(categories)}
    for batch in table.to_batches(max_chunksize=4096):
        _add_rows(found, batch, label, order)
    return found


def _add_rows(
    found: RefinedLabels, batch: pa.RecordBatch, label: dict[int, int], order: np.ndarray
) -> None:
    rows = [row for row in batch.to_pylist() if row["decision"] in TAKEN]
    for row in rows:
        boxes, areas = bbox_areas([row["mask_rle"]], row["height"], row["width"])
        if areas[0] == 0:
            continue  # an empty mask teaches nothing
        image_id = row["image_id"]
        found.file_names[image_id] = row["file_name"]
        found.rows.setdefault(image_id, []).append(
            RefinedRow(
                label[row["category_id"]],
                row["mask_rle"],
                boxes[0],
                _in_order(row["class_probs"], order),
            )
        )


def _in_order(probs: list[float] | None, order: np.ndarray) -> np.ndarray | None:
    if not probs:
        return None
    return np.asarray(probs, np.float32)[order]


def _set_aside(folder: Path) -> frozenset[int]:
    table: Any = read_table(folder, "quarantine", columns=["image_id"])
    return frozenset(int(value) for value in table["image_id"].to_pylist())
