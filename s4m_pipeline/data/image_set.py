"""Image sets in memory: classes, images and labelled instances. No torch."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from s4m_pipeline.data.reading import PLAIN, Reading
from s4m_pipeline.errors import UsageError
from s4m_pipeline.wording import escaped


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
        file_name: Name relative to the images folder, as the COCO file writes it. It is for people
            and tables: bytes that are not UTF-8 are escaped in it, and in ``path`` they are not.
        path: Where the file should be. It need not exist: loading it says so.
        height: Height in pixels.
        width: Width in pixels.
        reading: How the pictures of its set are read.
    """

    id: int
    file_name: str
    path: Path
    height: int
    width: int
    reading: Reading = PLAIN

    def __post_init__(self) -> None:
        self.file_name = escaped(self.file_name)


@dataclass(slots=True)
class Instance:
    """A labelled instance.

    Attributes:
        category_id: COCO's category id.
        rle: The mask's COCO compressed RLE counts, of the image's height and width.
        bbox: x, y, width, height of the mask in pixels.
        area: The mask's pixels.
        iscrowd: Whether it stands for a crowd of objects.
        file_bbox: The file's own box, by which COCO's metric counts; None where the file has none
            that can be used.
        file_area: Likewise the file's own area. Computed from polygons, it is no whole number.
    """

    category_id: int
    rle: bytes
    bbox: tuple[float, float, float, float]
    area: int
    iscrowd: bool
    file_bbox: tuple[float, float, float, float] | None = None
    file_area: float | None = None


class EmptyMask(NamedTuple):
    """An annotation whose mask has no pixel.

    Attributes:
        annotation_id: COCO's annotation id.
        place: Its place among the image's annotations.
        instance: The annotation.
    """

    annotation_id: int
    place: int
    instance: Instance


@dataclass(slots=True)
class ImageSet:
    """Images with their labels.

    Attributes:
        categories: The classes; a class's label index is its place in this list.
        images: Sorted by id.
        instances: Labels by image id; an image without any has no entry.
        empty: By image id, the annotations left out because their mask has no pixel. They are no
            labels, but COCO's metric counts them as instances that were missed.
    """

    categories: list[Category]
    images: list[ImageRecord]
    instances: dict[int, list[Instance]] = field(default_factory=dict)
    empty: dict[int, list[EmptyMask]] = field(default_factory=dict)

    @property
    def instance_count(self) -> int:
        """Number of labelled instances."""
        return sum(len(labels) for labels in self.instances.values())

    @property
    def empty_masks(self) -> list[int]:
        """Ids of the annotations left out because their mask has no pixel."""
        return [mask.annotation_id for masks in self.empty.values() for mask in masks]

    def only(self, image_ids: Collection[int]) -> ImageSet:
        """The set with these images alone, and their labels; the classes stay."""
        chosen = frozenset(image_ids)
        return ImageSet(
            self.categories,
            [image for image in self.images if image.id in chosen],
            {key: labels for key, labels in self.instances.items() if key in chosen},
            {key: masks for key, masks in self.empty.items() if key in chosen},
        )

    def without(self, image_ids: Collection[int]) -> ImageSet:
        """The set without these images and their labels; the classes stay."""
        left_out = frozenset(image_ids)
        return self.only([image.id for image in self.images if image.id not in left_out])

    def read_by(self, reading: Reading) -> ImageSet:
        """The same set, whose pictures are read by a rule; this one is changed."""
        for image in self.images:
            image.reading = reading
        return self

    def id_of_file(self) -> dict[str, int]:
        """Map each image's file name to its id."""
        return {image.file_name: image.id for image in self.images}


def reading_of(images: Sequence[ImageRecord]) -> Reading:
    """How the pictures of a set are read, which is the same for all."""
    return images[0].reading if images else PLAIN


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
    examples = ", ".join(
        f"id {key} is {names_a.get(key, 'missing')!r} and {names_b.get(key, 'missing')!r}"
        for key in differing[:3]
    )
    raise UsageError(
        f"{what_a} and {what_b} have different categories ({len(differing)} differ): {examples}"
    )


def require_images(images: ImageSet, what: str) -> None:
    """Raise UsageError, naming ``what``, when a set has no image."""
    if not images.images:
        raise UsageError(f"{what}: no images in it")


def require_instances(images: ImageSet, what: str) -> None:
    """Raise UsageError, naming ``what``, when a set has no image, class or labelled instance.

    A crowd is no label: it stands for no single object, and trainings and metrics ignore it.
    """
    require_images(images, what)
    if not images.categories:
        raise UsageError(f"{what}: no categories in it")
    if not images.instance_count:
        raise UsageError(f"{what}: {len(images.images)} images, but no labelled instance")
    if all(label.iscrowd for labels in images.instances.values() for label in labels):
        raise UsageError(f"{what}: {only_crowds(images.instance_count)}")


def only_crowds(count: int) -> str:
    """What is said of a set whose instances are all crowds."""
    return (
        f"{count:,} of {count:,} annotations are crowds (iscrowd 1), which are no labels.\n"
        "Write iscrowd 0 where a mask is one object; masks drawn with a brush often leave their "
        "tool as crowds."
    )
