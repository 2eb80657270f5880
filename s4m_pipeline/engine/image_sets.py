"""The run's image sets, read once, with the digests that fingerprints take."""

from __future__ import annotations

import os
from functools import cached_property

from s4m_pipeline.artifacts.fingerprint import DigestCache, digest_of, image_set_digest
from s4m_pipeline.config import DataSection, LabelledSet, UnlabelledSet
from s4m_pipeline.data.folders import require_folder
from s4m_pipeline.data.formats import coco, image_folder
from s4m_pipeline.data.formats.coco.reader import load_coco_json
from s4m_pipeline.data.formats.coco.values import image_key
from s4m_pipeline.data.image_set import (
    ImageSet,
    check_same_categories,
    require_images,
    require_instances,
)
from s4m_pipeline.errors import UsageError


class ImageSets:
    """The labelled, unlabelled and validation images of a run.

    Args:
        data: The run's data section.
        digests: Cache of file digests.
    """

    def __init__(self, data: DataSection, digests: DigestCache) -> None:
        self._data = data
        self._digests = digests
        self._known: dict[str, str] = {}

    @cached_property
    def labelled(self) -> ImageSet:
        """The labelled images, all of their files there (UsageError when not)."""
        section = self._data.labelled
        found = read_labelled(section, "data.labelled")
        _require_files(found, section, "data.labelled")
        return found

    @cached_property
    def validation(self) -> ImageSet | None:
        """The validation images; None where the run has none."""
        section = self._data.validation
        if section is None:
            return None
        found = read_labelled(section, "data.validation")
        _require_files(found, section, "data.validation")
        check_same_categories(
            self.labelled.categories, found.categories, "data.labelled", "data.validation"
        )
        return found

    def load_labelled_sets(self) -> None:
        """Read all images with masks now, so that what is wrong with them is told first."""
        if self.validation is None:
            require_instances(self.labelled, "data.labelled")

    def load_unlabelled_set(self) -> None:
        """Read the list of unlabelled images now (UsageError where there are none)."""
        require_images(self.unlabelled, "data.unlabelled")

    @cached_property
    def unlabelled(self) -> ImageSet:
        """The unlabelled images, masks never read (UsageError when there are none)."""
        section = self._unlabelled_section
        if section.annotations is None:
            found = image_folder.load(section.images)
        else:
            require_folder(section.images)
            found = coco.load(section.annotations, section.images, masks=False)
        require_images(found, "data.unlabelled")
        return found

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
        """Digest of the unlabelled images and of their list."""
        return self.digest(self._unlabelled_section)

    def digest(self, section: LabelledSet | UnlabelledSet) -> str:
        """Digest of an image set: the annotation file's bytes, the images' names and sizes."""
        key = f"{section.images}|{section.annotations}"
        if key not in self._known:
            if section.annotations is None:
                names = image_folder.list_images(section.images)
                listed = "folder"
            else:
                content = load_coco_json(section.annotations)
                entries = enumerate(content["images"])
                names = [image_key(e, place, section.annotations)[1] for place, e in entries]
                listed = self._digests.file(section.annotations)
            self._known[key] = digest_of([listed, image_set_digest(section.images, names)])
        return self._known[key]


def _require_files(found: ImageSet, section: LabelledSet, what: str) -> None:
    require_folder(section.images)
    missing = [image.file_name for image in found.images if not os.path.isfile(image.path)]
    if missing:
        raise UsageError(
            f"{what}: {len(missing)} of {len(found.images)} images are not in "
            f"{section.images}, the first is {missing[0]}"
        )


def read_labelled(section: LabelledSet, what: str) -> ImageSet:
    """Read images with masks; UsageError where there is no labelled instance."""
    found = coco.load(section.annotations, section.images)
    require_instances(found, what)
    return found
