"""Divide a COCO file into labelled, unlabelled and validation images. No torch.

Only lists are written, as COCO files whose names are relative to the same folder of images; no
image is copied. The file's entries are passed on as they stand.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from s4m_pipeline.artifacts.seeds import rng
from s4m_pipeline.data.folders import require_folder
from s4m_pipeline.data.formats.coco.reader import cleaning, read_categories, supercategory_only
from s4m_pipeline.data.formats.coco.text import CocoText
from s4m_pipeline.data.formats.coco.values import EntryError
from s4m_pipeline.data.split.alike import Alike, find_alike
from s4m_pipeline.data.split.entries import (
    Labels,
    check_images,
    check_masks,
    require_label,
)
from s4m_pipeline.data.split.lists import match_list, read_list, write_list
from s4m_pipeline.data.split.parts import Split, SplitFiles
from s4m_pipeline.data.split.stratify import draw
from s4m_pipeline.errors import UsageError
from s4m_pipeline.execution.parallel import Progress, silent
from s4m_pipeline.wording import counted

UNLABELLED = ("rest", "all")
"""Which images the unlabelled file has: those not labelled, or the labelled ones as well."""

PARTS = ("labelled", "unlabelled", "validation")


class SplitSource:
    """A labelled COCO file to be divided, read once for any number of splits.

    Masks are not looked at; ``s4m data check`` does that.

    Args:
        annotations: The COCO file.
        images: The folder its file names are relative to.
        decode: Decode the images, so that those that show the same picture stay in one part.
        processes: How many processes decode.
        progress: Shows how far they are.
        outside: Whether file names may lead out of the folder of images.

    Attributes:
        ids: The images' ids, sorted.
        alike: Which images show the same picture.

    Raises:
        UsageError: The file is not usable, has no labelled instance, or an image or their folder
            is missing.
    """

    def __init__(
        self,
        annotations: Path,
        images: Path,
        decode: bool = True,
        processes: int = 1,
        progress: Progress = silent,
        outside: bool = False,
    ) -> None:
        require_folder(images)
        try:
            self._read(annotations, images, outside)
        except EntryError as error:
            raise UsageError(f"{error}\n{cleaning(annotations, images)}") from error
        self.alike = Alike()
        if decode:
            self.alike = find_alike(images, self._entries, processes, progress)

    def _read(self, annotations: Path, images: Path, outside: bool) -> None:
        labels = Labels(annotations)
        self._text = CocoText(annotations, labels.add)
        self._annotations = annotations
        entries = check_images(self._text.images, annotations, images, outside)
        self.ids = [image.id for image in entries]
        self._image_of = labels.images
        categories, used = self._text.other.get("categories", []), set(labels.categories)
        named = read_categories(categories, annotations, used)
        if (extra := supercategory_only(categories)) in used:  # in some parts, and not in others
            own = next(entry for entry in categories if entry["id"] == extra)
            own["supercategory"] = own["name"]  # so that reading a part does not drop the class
        self._categories = {category.id: category.name for category in named}
        self._labels = labels.by_image(self.ids, self._categories)
        check_masks(self._text, labels, entries)
        self._annotation_labels, self._entries = labels, entries

    def draw(
        self, percent: float, seed: int, stratified: bool = True, validation: float = 0.0
    ) -> Split:
        """Draw the labelled images, and before them those for validation.

        The validation images depend on the seed and their share alone, so that splits of
        different percentages are measured on the same images.

        Args:
            percent: The labelled share of all images, above 0 and at most 100. Counts are
                rounded down, as in the lists of S4M's authors, but to no less than 1.
            seed: Fixes the draw.
            stratified: Keep each class's share of the instances close to ``percent``; otherwise
                the images are drawn evenly.
            validation: The share of all images held back for validation, in percent.

        Raises:
            UsageError: The shares are out of range, or together above 100.
        """
        if not 0 < percent <= 100:
            raise UsageError(f"percent is {percent:g}; it must be above 0 and at most 100")
        held = self._draw_validation(validation, seed, stratified, taken=frozenset())
        ids = [key for key in self.ids if key not in held]
        count = _count(len(self.ids), percent)
        if count > len(ids):
            raise UsageError(
                f"{percent:g} % labelled and {validation:g} % for validation exceed the images"
            )
        generator = rng(seed, "split", f"{percent:g}")
        return Split(f"{percent:g}", self._draw(ids, count, generator, stratified), held)

    def take(self, listed: Path, seed: int, stratified: bool, validation: float = 0.0) -> Split:
        """Take the labelled images from a list; validation images are drawn from the others.

        Args:
            listed: See ``lists.read_list`` and ``lists.match_list``.
            seed: Fixes the draw of the validation images.
            stratified: See ``draw``.
            validation: See ``draw``.

        Raises:
            UsageError: The list cannot be read or does not fit the file.
        """
        labelled = frozenset(match_list(read_list(listed), self._text.images, listed))
        taken = self.alike.closure(labelled)
        held = self._draw_validation(validation, seed, stratified, taken)
        return Split(listed.stem.removeprefix("perc_"), labelled, held, listed)

    def write(self, split: Split, folder: Path, unlabelled: str = "rest") -> SplitFiles:
        """Write a split: ``labelled-P.json`` and ``unlabelled-P.json``.

        With validation images, ``validation-P.json``; where the labelled images were not taken
        from a list, their list ``perc_P.txt``.

        Args:
            split: What was drawn.
            folder: Where to write; made when missing.
            unlabelled: Of ``UNLABELLED``.

        Raises:
            UsageError: The folder cannot be written, or a file would replace the one divided.
        """
        names = {part: folder / f"{part}-{split.name}.json" for part in PARTS}
        if self._annotations.resolve() in {path.resolve() for path in names.values()}:
            raise UsageError(f"{self._annotations} would be replaced; give another --out")
        entries = self._text.images
        for part, chosen in (("labelled", split.labelled), ("validation", split.validation)):
            if chosen:
                images = [image for image in self._entries if image.id in chosen]
                require_label(self._text, self._annotation_labels, images, part)
        listed = folder / f"perc_{split.name}.txt" if split.listed is None else None
        if listed is not None:
            write_list(listed, [e["file_name"] for e in entries if e["id"] in split.labelled])
        files = SplitFiles(
            labelled=self._write_part(names["labelled"], split.labelled),
            unlabelled=names["unlabelled"],
            validation=self._write_part(names["validation"], split.validation)
            if split.validation
            else None,
            listed=listed,
        )
        hidden = self._hidden(split, unlabelled)
        self._text.write(files.unlabelled, [e for e in entries if e["id"] not in hidden], [])
        return files

    def summary(self, split: Split, unlabelled: str = "rest") -> dict[str, Any]:
        """Count what a split has: images and instances by part, labelled instances by class.

        Args:
            split: What was drawn.
            unlabelled: Of ``UNLABELLED``.

        Returns:
            ``images`` and ``instances``: ``labelled``, ``validation`` and ``all``, images
            ``unlabelled`` too; ``per_class``: by category name, ``labelled`` and ``all`` instances.
        """
        parts = {"labelled": split.labelled, "validation": split.validation, "all": self.ids}
        counts = {name: Counter[int]() for name in parts}
        for name, ids in parts.items():
            for key in ids:
                counts[name].update(self._labels.get(key, []))
        return {
            "images": {
                **{name: len(ids) for name, ids in parts.items()},
                "unlabelled": len(self.ids) - len(self._hidden(split, unlabelled)),
            },
            "instances": {name: counts[name].total() for name in parts},
            "per_class": {
                name: {"labelled": counts["labelled"][key], "all": counts["all"][key]}
                for key, name in self._categories.items()
                if counts["all"][key]
            },
        }

    def _write_part(self, path: Path, chosen: frozenset[int]) -> Path:
        entries = [entry for entry in self._text.images if entry["id"] in chosen]
        places = (place for place, key in enumerate(self._image_of) if key in chosen)
        self._text.write(path, entries, places)
        return path

    def _draw_validation(
        self, percent: float, seed: int, stratified: bool, taken: frozenset[int]
    ) -> frozenset[int]:
        if not 0 <= percent < 100:
            raise UsageError(f"validation is {percent:g} %; it must be at least 0 and below 100")
        if not percent:
            return frozenset()
        ids = [key for key in self.ids if key not in taken]
        count = _count(len(self.ids), percent)
        if count > len(ids):
            left = counted(len(ids), "image is", "images are")
            raise UsageError(f"only {left} left for {percent:g} % validation")
        return self._draw(ids, count, rng(seed, "validation", f"{percent:g}"), stratified)

    def _draw(
        self, ids: list[int], count: int, generator: np.random.Generator, stratified: bool
    ) -> frozenset[int]:
        """Draw among some images; those that show the same picture are drawn together."""
        labels = [self._labels.get(key, []) for key in ids]
        places = draw(labels, count, generator, stratified, self.alike.places(ids))
        return frozenset(ids[place] for place in places)

    def _hidden(self, split: Split, unlabelled: str) -> frozenset[int]:
        """Images that the unlabelled file leaves out, and those that show the same pictures."""
        labelled = split.labelled if unlabelled == "rest" else frozenset()
        return self.alike.closure(split.validation | labelled)


def check_names(splits: Sequence[Split]) -> None:
    """Raise UsageError where two splits would be written to files of the same names."""
    first: dict[str, Split] = {}
    for split in splits:
        other = first.setdefault(split.name, split)
        if other is not split:
            both = " and ".join(str(one.listed or f"{one.name} %") for one in (other, split))
            raise UsageError(
                f"{both} would both be written to labelled-{split.name}.json: "
                "give them one at a time, each with its own --out"
            )


def write_split(
    annotations: Path, images: Path, percent: float, seed: int, stratified: bool, folder: Path
) -> tuple[Path, Path]:
    """Split a COCO file and write the labelled and the unlabelled rest into a folder.

    Args:
        annotations: The COCO file.
        images: The folder its file names are relative to.
        percent: The labelled share of the images; see ``SplitSource.draw``.
        seed: Fixes the draw.
        stratified: See ``SplitSource.draw``.
        folder: Where to write; see ``SplitSource.write``.

    Returns:
        The labelled and the unlabelled file.

    Raises:
        UsageError: See ``SplitSource``; or the folder cannot be written.
    """
    source = SplitSource(annotations, images)
    files = source.write(source.draw(percent, seed, stratified), folder)
    return files.labelled, files.unlabelled


def _count(images: int, percent: float) -> int:
    """Images in a share, rounded down; 1e-9 keeps 29 % of 100 at 29."""
    return min(images, max(1, int(images * percent / 100 + 1e-9)))
