"""What can be wrong with COCO-style data, counted by kind with a few examples. No torch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from s4m_pipeline.data.exif import MEANINGS
from s4m_pipeline.wording import escaped

EXAMPLES = 5
FAULTS: Mapping[str, str] = {
    "no-images": "files without any image",
    "no-list": "keys of the file that are missing or no list",
    "outside-name": "file names that lead out of the folder of images (data.outside: allow)",
    "panoptic": "annotations in COCO's panoptic format, which is not read",
    "no-annotations": "files without any annotation",
    "no-categories": "files without any category",
    "missing-image": "images whose file is missing",
    "unreadable-image": "images whose file cannot be read whole",
    "size-mismatch": "images whose size is not the file's",
    "no-common-levels": "sets of pictures that no levels hold for (set data.levels)",
    "few-levels": "images that use under a tenth of the levels, so that hardly anything is seen",
    "bad-image-entry": "image entries without id, file name, or usable height and width",
    "duplicate-image-id": "image ids that occur more than once",
    "duplicate-file-name": "file names that occur more than once",
    "bad-category-entry": "category entries without id or name",
    "duplicate-category-id": "category ids that occur more than once",
    "duplicate-category-name": "category names that occur more than once",
    "bad-id": "image ids below 0 or above 2^63 - 1, and category ids that 32 bits do not hold",
    "bad-annotation-entry": "annotations that are not objects or have no id or image id",
    "duplicate-annotation-id": "annotation ids that occur more than once",
    "duplicate-annotation": "annotations that repeat another of their image, class and mask",
    "bad-iscrowd": "annotations whose iscrowd is neither 0, 1, true nor false",
    "only-crowds": "files without one annotation that is no crowd",
    "unknown-image": "annotations of an image that is not in the file",
    "image-left-out": "annotations of an image that is left out",
    "unknown-category": "annotations of a category that is not in the file",
    "degenerate-polygon": "annotations with a polygon of less than three points or without width",
    "normalised-polygon": "annotations whose polygons lie from 0 to 1, where pixels are expected",
    "bad-segmentation": "annotations whose polygons or RLE cannot be used",
    "empty-mask": "annotations whose mask has no pixel",
    "wrong-area": "annotations whose area is not their mask's",
    "wrong-bbox": "annotations whose bbox is not their mask's",
    "same-file": "images that another set has too, byte for byte",
    "same-pixels": "images that another set has too, pixel for pixel in another file",
    "near-duplicate": "images that another set has too, resized or compressed anew",
    "unreadable-other": "images of another set that could not be compared",
}
"""Kinds of fault, each with what it says."""
NOTES: Mapping[str, str] = {
    "image-without-annotations": "images without annotations",
    "category-without-annotations": "categories without annotations",
    "category-gap": "gaps in the category ids",
    **{
        f"exif-{orientation}": f"images whose EXIF orientation is {orientation}: stored {meaning}"
        for orientation, meaning in MEANINGS.items()
    },
    "exif-hint": "hints at the picture that the labels were drawn on, upright or as stored",
    "deep-image": "images of more than 8 bits, all read by the same levels (data.levels)",
    "several-frames": "images of several frames or pages, of which the first is read",
    "repeated-image": "images that occur twice by content",
}
"""What may be intended, but is worth knowing, each with what it says."""
MODEL_NOTES: Mapping[str, str] = {
    "more-than-queries": "images with more instances than the model finds",
    "small-instances": "instances that are too small for the model's masks",
}
"""Notes about a set and a model that is to learn from it."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One kind of fault, or of note, in a file.

    Attributes:
        kind: A key of ``FAULTS``, ``NOTES`` or ``MODEL_NOTES``.
        count: How often it occurs.
        examples: The first few, each naming image, annotation or category.
    """

    kind: str
    count: int
    examples: tuple[str, ...]

    @property
    def is_note(self) -> bool:
        """Whether it may be intended."""
        return self.kind not in FAULTS

    @property
    def meaning(self) -> str:
        """What the kind says."""
        return {**FAULTS, **NOTES, **MODEL_NOTES}[self.kind]

    @property
    def text(self) -> str:
        """What the fault is, how often, and its examples, each on an indented line of its own."""
        lines = [f"{self.meaning}: {self.count:,}", *(f"  {e}" for e in self.examples)]
        if self.count > len(self.examples) and self.kind not in MODEL_NOTES:  # figures and advice
            lines.append(f"  and {self.count - len(self.examples):,} more")
        return "\n".join(lines)


@dataclass(slots=True)
class FaultCounter:
    """Counts faults and keeps the first examples of each kind; can be sent between processes."""

    counts: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[str]] = field(default_factory=dict)

    def add(self, kind: str, example: str, count: int = 1) -> None:
        """Count a fault of a kind, or several with the same example.

        What cannot be printed, such as the lone surrogates that JSON may hold, is escaped.
        """
        example = escaped(example)
        self.counts[kind] += count
        kept = self.examples.setdefault(kind, [])
        if len(kept) < EXAMPLES:
            kept.append(example)

    def merge(self, other: FaultCounter) -> None:
        """Count what another counter has, its examples after this one's."""
        self.counts.update(other.counts)
        for kind, examples in other.examples.items():
            kept = self.examples.setdefault(kind, [])
            kept.extend(examples[: EXAMPLES - len(kept)])

    def listed(self) -> list[Fault]:
        """All kinds found: faults, then notes, each in the order of their table."""
        return [
            Fault(kind, self.counts[kind], tuple(self.examples[kind]))
            for kind in (*FAULTS, *NOTES)
            if self.counts[kind]
        ]
