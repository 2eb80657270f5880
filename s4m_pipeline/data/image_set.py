"""Image sets in memory: classes, images and labelled instances. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from s4m_pipeline.errors import UsageError


@dataclass(frozen=True, slots=True)
class Category:
    """A class, as COCO names it."""

    id: int
    name: str


@dataclass(slots=True)
class ImageRecord:
    """An image of a set.

    Attributes:
        id: COCO's image id.
        file_name: Name relative to the images folder, as the COCO file writes it.
        path: Where the file should be. It need not exist: loading it says so.
        height: Height in pixels.
        width: Width in pixels.
    """

    id: int
    file_name: str
    path: Path
    height: int
    width: int


@dataclass(slots=True)
class Instance:
    """A labelled instance.

    Attributes:
        category_id: COCO's category id.
        rle: The mask's COCO compressed RLE counts, of the image's height and width.
        bbox: x, y, width, height of the mask in pixels.
        area: The mask's pixels.
        iscrowd: Whether it stands for a crowd of objects.
        told_bbox: The box that the file tells, by which COCO's metric counts; None where it tells
            none that can be used.
        told_area: Likewise the area, which may be of polygons and then is no whole number.
    """

    category_id: int
    rle: bytes
    bbox: tuple[float, float, float, float]
    area: int
    iscrowd: bool
    told_bbox: tuple[float, float, float, float] | None = None
    told_area: float | None = None


@dataclass(slots=True)
class ImageSet:
    """Images with their labels.

    Attributes:
        categories: The classes; a class's label index is its place in this list.
        images: Sorted by id.
        instances: Labels by image id; an image without any has no entry.
        empty_masks: Ids of annotations left out because their mask has no pixel.
        empty: Those annotations by image id, each with its place among the image's annotations.
            They are no labels, but COCO's metric counts them as instances that were missed.
    """

    categories: list[Category]
    images: list[ImageRecord]
    instances: dict[int, list[Instance]] = field(default_factory=dict)
    empty_masks: list[int] = field(default_factory=list)
    empty: dict[int, list[tuple[int, Instance]]] = field(default_factory=dict)

    @property
    def instance_count(self) -> int:
        """Number of labelled instances."""
        return sum(len(found) for found in self.instances.values())

    def id_of_file(self) -> dict[str, int]:
        """Map each image's file name to its id."""
        return {image.file_name: image.id for image in self.images}


def check_same_categories(
    a: Sequence[Category], b: Sequence[Category], what_a: str, what_b: str
) -> None:
    """Check that two files mean the same classes by the same ids, in any order.

    Raises:
        UsageError: They do not; the message says where they first differ.
    """
    names_a = {category.id: category.name for category in a}
    names_b = {category.id: category.name for category in b}
    if names_a == names_b:
        return
    differing = sorted(
        key for key in names_a.keys() | names_b.keys() if names_a.get(key) != names_b.get(key)
    )
    told = ", ".join(
        f"id {key} is {names_a.get(key, 'missing')!r} and {names_b.get(key, 'missing')!r}"
        for key in differing[:3]
    )
    raise UsageError(
        f"{what_a} and {what_b} have different categories ({len(differing)} differ): {told}"
    )


def require_images(found: ImageSet, what: str) -> None:
    """Raise UsageError, naming ``what``, when a set has no image."""
    if not found.images:
        raise UsageError(f"{what}: no images in it")


def require_instances(found: ImageSet, what: str) -> None:
    """Raise UsageError, naming ``what``, when a set has no image, class or labelled instance."""
    require_images(found, what)
    if not found.categories:
        raise UsageError(f"{what}: no categories in it")
    if not found.instance_count:
        raise UsageError(f"{what}: {len(found.images)} images, but no labelled instance")
