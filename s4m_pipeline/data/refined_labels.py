"""The pseudo-labels of a refine artifact, as training labels. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools import mask as mask_api

from s4m_pipeline.artifacts.tables import categories_of, read_table
from s4m_pipeline.data.image_set import Category, ImageRecord, check_same_categories
from s4m_pipeline.data.segmentation import Box, as_coco_rles, bbox_areas
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
    "score",
    "agreement",
]
UNCERTAIN_COLUMNS = ["reason", "teacher_mask_rle"]
SCORE_REASON = "score "
"""How the reason begins of a row that its score dropped."""
GATE_REASONS = ("agreement ", "area ratio ", "the segmenter's mask is empty")
"""How the reasons begin of rows that refinement's gate dropped."""


@dataclass(slots=True)
class RefinedRow:
    """A pseudo-label, or an uncertain mask.

    Attributes:
        label: Place of its class in the category list.
        rle: COCO compressed RLE counts.
        bbox: x, y, width, height in pixels.
        class_probs: float32 (K,), the teacher's class distribution in label order, or None.
        quality: The teacher's score times its mask's agreement with the segmenter's.
        ignored: Whether it is no label but a region of doubt.
    """

    label: int
    rle: bytes
    bbox: Box
    class_probs: np.ndarray | None
    quality: float
    ignored: bool


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


def read_refined(
    folder: Path, categories: Sequence[Category], ignore_score: float | None = None
) -> RefinedLabels:
    """Read the rows of a refine artifact that were refined or kept.

    Args:
        folder: The artifact's folder.
        categories: The classes in label order; the artifact's may be in another order.
        ignore_score: Read uncertain rows as ignored ones, too: what was dropped for a score that
            is not below this, and what the gate dropped. None reads none.

    Raises:
        UsageError: Other categories.
        ArtifactError: A file is damaged or of another format version.
    """
    columns = COLUMNS if ignore_score is None else [*COLUMNS, *UNCERTAIN_COLUMNS]
    table = read_table(folder, "refined", columns=columns)
    found = RefinedLabels({}, {}, _set_aside(folder))
    if not table.num_rows:
        return found
    own = [Category(int(c["id"]), str(c["name"])) for c in categories_of(table)]
    check_same_categories(categories, own, "the run", str(folder))
    place = {category.id: number for number, category in enumerate(own)}
    order = np.array([place[category.id] for category in categories])
    label = {category.id: number for number, category in enumerate(categories)}
    for batch in table.to_batches(max_chunksize=4096):
        for row in batch.to_pylist():
            ignored = _is_uncertain(row, ignore_score)
            if ignored or row["decision"] in TAKEN:
                _add_row(found, row, label[row["category_id"]], order, ignored)
    return found


def _is_uncertain(row: dict[str, Any], ignore_score: float | None) -> bool:
    """Whether a row was dropped, but may be an object all the same."""
    if ignore_score is None or row["decision"] != "dropped":
        return False
    if row["reason"].startswith(SCORE_REASON):
        return bool(row["score"] >= ignore_score)
    return bool(row["reason"].startswith(GATE_REASONS))


def _add_row(
    found: RefinedLabels, row: dict[str, Any], label: int, order: np.ndarray, ignored: bool
) -> None:
    """Add a row; of an uncertain one both the teacher's and the segmenter's pixels count."""
    height, width = row["height"], row["width"]
    rle = row["mask_rle"]
    if ignored:
        both = as_coco_rles([rle, row["teacher_mask_rle"]], height, width)
        rle = bytes(mask_api.merge(both)["counts"])
    boxes, areas = bbox_areas([rle], height, width)
    if areas[0] == 0:
        return  # an empty mask teaches nothing
    found.file_names[row["image_id"]] = row["file_name"]
    quality = float(row["score"]) * float(row["agreement"])
    probs = _in_order(row["class_probs"], order)
    found.rows.setdefault(row["image_id"], []).append(
        RefinedRow(label, rle, boxes[0], probs, quality, ignored)
    )


def _in_order(probs: list[float] | None, order: np.ndarray) -> np.ndarray | None:
    if not probs:
        return None
    return np.asarray(probs, np.float32)[order]


def _set_aside(folder: Path) -> frozenset[int]:
    table: Any = read_table(folder, "quarantine", columns=["image_id"])
    return frozenset(int(value) for value in table["image_id"].to_pylist())
