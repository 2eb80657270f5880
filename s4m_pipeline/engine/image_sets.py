"""The run's image sets, read once, with the digests that fingerprints take."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import astuple
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from s4m_pipeline.artifacts.file_facts import FileFacts
from s4m_pipeline.artifacts.fingerprint import content_digest, digest_of, image_set_digest
from s4m_pipeline.config_data import MOST_MEGAPIXELS, DataSection, LabelledSet, UnlabelledSet
from s4m_pipeline.data.folders import require_folder, require_inside
from s4m_pipeline.data.formats import coco, image_folder
from s4m_pipeline.data.formats.coco.reader import cleaning, load_coco_json
from s4m_pipeline.data.formats.coco.values import EntryError, image_key
from s4m_pipeline.data.image_set import (
    ImageSet,
    check_same_categories,
    require_images,
    require_instances,
)
from s4m_pipeline.data.images import read_extremes
from s4m_pipeline.data.levels import Extremes, Levels, decided
from s4m_pipeline.data.near_names import NearNames
from s4m_pipeline.data.reading import Reading
from s4m_pipeline.engine.image_roles import ImageRoles
from s4m_pipeline.errors import UsageError
from s4m_pipeline.wording import counted


class ImageSets:
    """The labelled, unlabelled and validation images of a run.

    Args:
        data: The run's data section.
        facts: What is known of the sets' files.
        warn: Tells the user what may be wrong, of the same thing only once.
    """

    def __init__(
        self,
        data: DataSection,
        facts: FileFacts,
        warn: Callable[[str], None] = lambda message: None,
    ) -> None:
        self._data = data
        self._facts = facts
        self._warn = warn
        self._set_digests: dict[str, str] = {}
        self._names: dict[str, list[str]] = {}
        self._roles = ImageRoles(data, self._names_of, facts, warn)

    def again(self) -> ImageSets:
        """These sets by the same lists of names, of whose files nothing is known yet."""
        sets = ImageSets(self._data, self._facts, self._warn)
        sets._names = dict(self._names)
        return sets

    @cached_property
    def reading(self) -> Reading:
        """How the pictures of all sets are read (UsageError where no rule holds for all)."""
        upright, most = self._data.exif == "upright", self._data.max_megapixels
        if self._data.levels != "auto":
            low, high = map(float, self._data.levels)
            return Reading(Levels(low, high), upright, most)
        return Reading(decided(self.deep_pictures), upright, most)

    @cached_property
    def deep_pictures(self) -> dict[str, Extremes]:
        """The pictures of more than 8 bits of all sets that can be listed, by their paths."""
        deep: dict[str, Extremes] = {}
        most = self._data.max_megapixels
        kind = "levels" if most == MOST_MEGAPIXELS else f"levels up to {most} megapixels"
        for section in (self._data.labelled, self._data.unlabelled, self._data.validation):
            if section is None:
                continue
            try:
                names = self._names_of(section)
            except UsageError:  # the stages that need this set say what is wrong with it
                continue
            found = self._facts.of(kind, section.images, names, partial(_found_extremes, most))
            for name, fact in zip(names, found, strict=True):
                if fact is not None:
                    deep[str(section.images / name)] = Extremes(*fact)
        return deep

    def dim_pictures(self) -> list[str]:
        """The pictures, by path, that use under a tenth of the levels."""
        levels = self.reading.levels
        if levels is None:
            return []
        return [p for p, found in self.deep_pictures.items() if found.uses_few(levels)]

    def reading_inputs(self) -> dict[str, str]:
        """What of `reading` is not as usual, for fingerprints and manifests."""
        levels, upright = self.reading.levels, self.reading.upright
        inputs = {} if levels is None else {"data.levels": str(levels)}
        if not upright:
            inputs["data.exif"] = "ignore"
        if self.reading.megapixels != MOST_MEGAPIXELS:
            inputs["data.max_megapixels"] = str(self.reading.megapixels)
        return inputs

    @cached_property
    def labelled(self) -> ImageSet:
        """The labelled images (UsageError where a file is missing)."""
        section = self._data.labelled
        self._names_of(section)
        labelled = read_labelled(section, "data.labelled")
        _require_files(labelled, section, "data.labelled")
        return labelled.read_by(self.reading)

    @cached_property
    def validation(self) -> ImageSet | None:
        """The validation images; None where the run has none."""
        section = self._data.validation
        if section is None:
            return None
        self._names_of(section)
        validation = read_labelled(section, "data.validation")
        _require_files(validation, section, "data.validation")
        check_same_categories(
            self.labelled.categories, validation.categories, "data.labelled", "data.validation"
        )
        return validation.read_by(self.reading)

    def load_labelled_sets(self) -> None:
        """Read the labelled and the validation set, so that their faults come before any work."""
        if self.validation is None:  # reading that one reads the labelled set as well
            require_instances(self.labelled, "data.labelled")
        self._roles.warn_of_shared()

    def load_unlabelled_set(self) -> None:
        """Read the list of unlabelled images (UsageError where there are none)."""
        require_images(self.unlabelled, "data.unlabelled")

    @cached_property
    def unlabelled(self) -> ImageSet:
        """The unlabelled images, without masks, which are never read (UsageError for no image).

        Validation images are not among them, and labelled ones are only if the run says so.
        """
        section = self._unlabelled_section
        self._names_of(section)
        if section.annotations is None:
            unlabelled = image_folder.load(section.images, self.reading.upright)
        else:
            require_folder(section.images)
            listed, folder = section.annotations, section.images
            unlabelled = coco.load(listed, folder, masks=False, reading=self.reading)
        require_images(unlabelled, "data.unlabelled")
        if not any(os.path.isfile(image.path) for image in unlabelled.images):
            _require_files(unlabelled, section, "data.unlabelled")  # few are set aside, not all
        return self._roles.unlabelled_alone(unlabelled, section).read_by(self.reading)

    def unlabelled_files(self) -> str:
        """What was taken of an unlabelled folder and what was passed over, in words.

        Empty where a file lists the images, or where all files were taken and none through a link.
        """
        section = self._unlabelled_section
        if section.annotations is not None:
            return ""
        listing = image_folder.listing_of(section.images)
        rest = listing.rest()
        if not rest and not listing.linked:
            return ""
        text = f"data.unlabelled: {counted(len(listing.names), 'image', 'images')} taken"
        if listing.linked:
            text += f", also through links ({', '.join(listing.linked[:3])})"
        return text + (f"; passed over: {rest}" if rest else "")

    @property
    def _unlabelled_section(self) -> UnlabelledSet:
        if self._data.unlabelled is None:
            raise UsageError(
                "data.unlabelled is missing: give a folder of images, "
                "e.g. unlabelled: {images: photos/unlabelled}"
            )
        return self._data.unlabelled

    def labelled_digest(self) -> str:
        """Digest of the labelled images and their masks."""
        return self.digest(self._data.labelled)

    def unlabelled_digest(self) -> str:
        """Digest of the unlabelled images and of their list, and of what is left out of them."""
        digest, left_out = self.digest(self._unlabelled_section), self._roles.left_out()
        return digest_of([digest, left_out]) if left_out else digest

    def digest(self, section: LabelledSet | UnlabelledSet) -> str:
        """Digest of an image set: the annotation file's bytes, the images' names and contents."""
        key = f"{section.images}|{section.annotations}"
        if key not in self._set_digests:
            names = self._names_of(section)
            listed = section.annotations
            list_digest = "folder" if listed is None else content_digest(listed, self._facts)
            images_digest = image_set_digest(section.images, names, self._facts)
            self._set_digests[key] = digest_of([list_digest, images_digest])
        return self._set_digests[key]

    def _names_of(self, section: LabelledSet | UnlabelledSet) -> list[str]:
        """The file names of a set's images, in the order of its list."""
        key = f"{section.images}|{section.annotations}"
        if key not in self._names:
            if section.annotations is None:
                self._names[key] = image_folder.list_images(section.images)
            else:
                names = _names_in(section.annotations, section)
                if self._data.outside == "refuse":
                    allow = "set data.outside: allow"
                    require_inside(names, section.images, section.annotations, allow)
                self._names[key] = names
        return self._names[key]


def _found_extremes(megapixels: int, path: Path) -> list[Any] | None:
    """What of a picture's values decides the levels, as a JSON value."""
    extremes = read_extremes(path, megapixels)
    return None if extremes is None else list(astuple(extremes))


def _require_files(images: ImageSet, section: LabelledSet | UnlabelledSet, name: str) -> None:
    require_folder(section.images)
    missing = [image.file_name for image in images.images if not os.path.isfile(image.path)]
    if missing:
        raise UsageError(
            f"{name}: {len(missing)} of {len(images.images)} images are not in "
            f"{section.images}, the first is {missing[0]}"
            f"{NearNames(section.images).hint(missing[0])}"
        )


def _names_in(annotations: Path, section: LabelledSet | UnlabelledSet) -> list[str]:
    entries = enumerate(load_coco_json(annotations)["images"])
    try:
        return [image_key(entry, place, annotations)[1] for place, entry in entries]
    except EntryError as error:
        if not isinstance(section, LabelledSet):
            raise
        raise UsageError(f"{error}\n{cleaning(annotations, section.images)}") from error


def read_labelled(section: LabelledSet, name: str) -> ImageSet:
    """Read images with masks; UsageError, with the set's name, where no instance is labelled."""
    labelled = coco.load(section.annotations, section.images)
    require_instances(labelled, name)
    return labelled
