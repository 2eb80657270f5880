"""Pictures for a stage's report: choose the images, and draw on them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from PIL import Image, ImageOps

from s4m_pipeline.artifacts.decision import Decision
from s4m_pipeline.artifacts.seeds import rng
from s4m_pipeline.artifacts.table_file import read_some
from s4m_pipeline.artifacts.tables import table_files
from s4m_pipeline.config_data import DRAWN, MOST_MEGAPIXELS
from s4m_pipeline.review.drawing import draw_masks, fit_scale, resize
from s4m_pipeline.review.page import Gallery, GalleryRow
from s4m_pipeline.review.palette import class_colours
from s4m_pipeline.review.refine_figures import InstanceFigures

LONGEST = 640
"""Pictures on a page are at most this many pixels on their longer side."""

Rows = Sequence[Mapping[str, Any]]


class SetPicture(Protocol):
    """A picture of a set, which knows how those are read."""

    @property
    def name(self) -> str:
        """The file's name."""

    def read(self) -> np.ndarray | None:
        """Its pixels, uint8 (H, W, 3) RGB; None where it cannot be read."""


Picture = Path | SetPicture
"""A picture to show: of a set, or a file by itself."""
_LABEL_COLUMNS = (
    "image_id",
    "category_id",
    "score",
    "mask_rle",
    "teacher_mask_rle",
    "agreement",
    "decision",
)


def label_galleries(
    folder: Path, figures: InstanceFigures, images: Mapping[int, Picture], limit: int, seed: int
) -> list[Gallery]:
    """Image, teacher's and refined masks: images by chance, and those of lowest agreement."""
    values = np.where(figures.labels, figures.agreement, np.nan)
    lowest = by_image(figures.image_id, values, np.min)
    chance, extreme = choose_images(np.unique(figures.image_id).tolist(), lowest, limit, seed)
    rows = _rows_of(folder, "refined", [*chance, *extreme], _LABEL_COLUMNS)
    drawer = _Drawer(figures, images)
    columns = ["image", "teacher", "refined"]
    note = "Dropped instances are not drawn."
    return [
        drawer.gallery(title, columns, chosen, lambda image, i: drawer.labels(image, rows[i]), note)
        for title, chosen in (("Images by chance", chance), ("Lowest agreement", extreme))
    ]


def prediction_galleries(
    folder: Path,
    figures: InstanceFigures,
    images: Mapping[int, Picture],
    limit: int,
    seed: int,
    score: float,
) -> list[Gallery]:
    """Image and predictions above a score: by chance, and those of lowest best score."""
    values = np.where(figures.score > score, figures.score, np.nan)
    best = by_image(figures.image_id, values, np.max)
    chance, extreme = choose_images(np.unique(figures.image_id).tolist(), best, limit, seed)
    rows = _rows_of(folder, "predictions", [*chance, *extreme], _LABEL_COLUMNS[:4])
    drawer = _Drawer(figures, images)
    note = f"Predictions with a score above {score:g} are drawn."

    def draw(image: np.ndarray, image_id: int) -> GalleryRow:
        return drawer.predictions(image, [r for r in rows[image_id] if r["score"] > score])

    return [
        drawer.gallery(title, ["image", "teacher"], chosen, draw, note)
        for title, chosen in (("Images by chance", chance), ("Least certain images", extreme))
    ]


def by_image(
    image_id: np.ndarray, values: np.ndarray, reduce: Callable[[np.ndarray], Any]
) -> dict[int, float]:
    """Reduce the finite values of each image to one number; images without any are left out."""
    finite = np.isfinite(values)
    ids, kept = image_id[finite], values[finite]
    order = np.argsort(ids, kind="stable")
    ids, kept = ids[order], kept[order]
    unique, starts = np.unique(ids, return_index=True)
    parts = np.split(kept, starts[1:]) if len(unique) else []
    return {int(i): float(reduce(part)) for i, part in zip(unique, parts, strict=True)}


def choose_images(
    ids: Sequence[int], lowest: Mapping[int, float], limit: int, seed: int
) -> tuple[list[int], list[int]]:
    """Choose the images to show: half at random, then those of the lowest values among the rest.

    Args:
        ids: All images, sorted.
        lowest: A value of each image; those without one are never among the lowest.
        limit: Images to choose at most.
        seed: Fixes the random draw.

    Returns:
        Image ids drawn at random, sorted; and image ids by value, from the lowest up.
    """
    extremes = max(limit, 0) // 2
    wanted = min(len(ids), max(limit, 0) - extremes)
    picked = rng(seed, "report").permutation(len(ids))[:wanted]
    chance = sorted(int(ids[place]) for place in picked)
    left = [i for i in sorted(lowest, key=lambda i: (lowest[i], i)) if i not in set(chance)]
    return chance, left[:extremes]


class _Drawer:
    """Reads the images and draws their instances, in one set of class colours."""

    def __init__(self, figures: InstanceFigures, images: Mapping[int, Picture]) -> None:
        self._names = figures.names
        self._colours = class_colours(list(figures.names.values()))
        self._images = images

    def gallery(
        self,
        title: str,
        columns: Sequence[str],
        chosen: Sequence[int],
        draw: Callable[[np.ndarray, int], GalleryRow],
        note: str,
    ) -> Gallery:
        """One gallery; images that cannot be read are left out and counted in its note."""
        rows = []
        for image_id in chosen:
            image = read_picture(self._images.get(image_id))
            if image is not None:
                row = draw(image, image_id)
                row.name = self._images[image_id].name
                rows.append(row)
        lost = len(chosen) - len(rows)
        if lost:
            note += f" Not shown, because they could not be read: {lost} of {len(chosen)} images."
        return Gallery(title, columns, rows, note)

    def labels(self, image: np.ndarray, rows: Rows) -> GalleryRow:
        """Image, teacher's masks and final masks of the instances that are labels."""
        held = [row for row in rows if row["decision"] != Decision.DROPPED]
        kept = sum(row["decision"] == Decision.KEPT for row in held)
        values = [row["agreement"] for row in held if row["agreement"] is not None]
        finite = [value for value in values if np.isfinite(value)]
        teacher = _count(len(held), len(rows) - len(held), "dropped")
        refined = _count(len(held), kept, "kept as they were")
        if finite:
            refined += f", lowest agreement {min(finite):.2f}"
        return GalleryRow(
            "",
            [
                self._plain(image),
                self._masks(image, held, "teacher_mask_rle", scored=True),
                self._masks(image, held, "mask_rle", scored=False),
            ],
            ["", teacher, refined],
        )

    def predictions(self, image: np.ndarray, rows: Rows) -> GalleryRow:
        """Image and predicted masks."""
        pictures = [self._plain(image), self._masks(image, rows, "mask_rle", scored=True)]
        return GalleryRow("", pictures, ["", _count(len(rows), 0, "")])

    def _plain(self, image: np.ndarray) -> Image.Image:
        return resize(image, fit_scale(image.shape[0], image.shape[1], LONGEST))

    def _masks(self, image: np.ndarray, rows: Rows, column: str, scored: bool) -> Image.Image:
        return draw_masks(
            image,
            [row[column] for row in rows],
            [self._names.get(row["category_id"], str(row["category_id"])) for row in rows],
            [row["score"] for row in rows] if scored else None,
            scale=fit_scale(image.shape[0], image.shape[1], LONGEST),
            colours=self._colours,
        )


def read_picture(picture: Picture | None) -> np.ndarray | None:
    """Read an image as uint8 (H, W, 3), RGB; None when it is missing or unreadable.

    A picture of a set is read as the set's are; a file by itself upright.
    """
    if picture is None:
        return None
    if not isinstance(picture, Path):
        return picture.read()
    try:
        with Image.open(picture) as image:
            if image.format in DRAWN or image.width * image.height > MOST_MEGAPIXELS * 1_000_000:
                return None
            return np.array(ImageOps.exif_transpose(image).convert("RGB"), dtype=np.uint8)
    except Exception:  # Pillow's readers of rare formats raise whatever comes up
        return None


def _rows_of(
    folder: Path, table: str, ids: Sequence[int], columns: Sequence[str]
) -> dict[int, list[dict[str, Any]]]:
    """Rows of a few images, by image; only the row groups that hold them are decoded."""
    rows: dict[int, list[dict[str, Any]]] = {image_id: [] for image_id in ids}
    if not ids:
        return rows
    for path in table_files(folder, table):
        part = read_some(path, table, columns, [("image_id", "in", list(rows))])
        for row in part.to_pylist():
            rows[row["image_id"]].append(row)
    return rows


def _count(instances: int, others: int, what: str) -> str:
    text = f"{instances or 'no'} instance{'' if instances == 1 else 's'}"
    return f"{text}, {others} {what}" if others else text
