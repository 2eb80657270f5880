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
        self._set_digests: dict[str, str] = {}

    @cached_property
    def labelled(self) -> ImageSet:
        """The labelled images (UsageError where a file is missing)."""
        section = self._data.labelled
        labelled = read_labelled(section, "data.labelled")
        _require_files(labelled, section, "data.labelled")
        return labelled

    @cached_property
    def validation(self) -> ImageSet | None:
        """The validation images; None where the run has none."""
        section = self._data.validation
        if section is None:
            return None
        validation = read_labelled(section, "data.validation")
        _require_files(validation, section, "data.validation")
        check_same_categories(
            self.labelled.categories, validation.categories, "data.labelled", "data.validation"
        )
        return validation

    def load_labelled_sets(self) -> None:
        """Read the labelled and the validation set, so that their faults come before any work."""
        if self.validation is None:  # reading that one reads the labelled set as well
            require_instances(self.labelled, "data.labelled")

    def load_unlabelled_set(self) -> None:
        """Read the list of unlabelled images (UsageError where there are none)."""
        require_images(self.unlabelled, "data.unlabelled")

    @cached_property
    def unlabelled(self) -> ImageSet:
        """The unlabelled images, without masks, which are never read (UsageError for no image)."""
        section = self._unlabelled_section
        if section.annotations is None:
            unlabelled = image_folder.load(section.images)
        else:
            require_folder(section.images)
            unlabelled = coco.load(section.annotations, section.images, masks=False)
        require_images(unlabelled, "data.unlabelled")
        return unlabelled

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
        if key not in self._set_digests:
            if section.annotations is None:
                names = image_folder.list_images(section.images)
                list_digest = "folder"
            else:
                content = load_coco_json(section.annotations)
                entries = enumerate(content["images"])
                names = [image_key(e, place, section.annotations)[1] for place, e in entries]
                list_digest = self._digests.file(section.annotations)
            images_digest = image_set_digest(section.images, names)
            self._set_digests[key] = digest_of([list_digest, images_digest])
        return self._set_digests[key]


def _require_files(images: ImageSet, section: LabelledSet, name: str) -> None:
    require_folder(section.images)
    missing = [image.file_name for image in images.images if not os.path.isfile(image.path)]
    if missing:
        raise UsageError(
            f"{name}: {len(missing)} of {len(images.images)} images are not in "
            f"{section.images}, the first is {missing[0]}"
        )


def read_labelled(section: LabelledSet, name: str) -> ImageSet:
    """Read images with masks; UsageError, with the set's name, where no instance is labelled."""
    labelled = coco.load(section.annotations, section.images)
    require_instances(labelled, name)
    return labelled
