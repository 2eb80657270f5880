"""Datasets for MMDetection: labelled COCO sets and refined pseudo-labels.

Each takes a plain index, or the samplers' ``(index, draw)``: then all randomness of the item's
pipeline comes from the seed and the draw, so that data depend neither on workers nor on a resume.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from mmdet.registry import DATASETS

from s4m_pipeline.configs.losses import StudentLosses
from s4m_pipeline.data.formats import coco, image_folder
from s4m_pipeline.data.image_set import ImageRecord, check_same_categories
from s4m_pipeline.data.reading import Reading
from s4m_pipeline.errors import UsageError
from s4m_pipeline.training_data import crop_masks as crop_masks  # registers its transform
from s4m_pipeline.training_data.instance_dataset import (
    InstanceDataset,
    as_categories,
    image_info,
    instance_info,
)
from s4m_pipeline.training_data.label_cache import LabelCache, open_labels
from s4m_pipeline.training_data.refined_labels import set_aside


@DATASETS.register_module()
class CocoInstances(InstanceDataset):
    """Images with the labels of a COCO file, boxes and areas taken from the masks.

    Args:
        annotations: The COCO file.
        images: The folder its file names are relative to.
        categories: The classes in label order; the file's own when None. The file must agree.
        structure: Folder of an artifact with structural targets of these images, or None.
        branch: "labelled" or "unlabelled".
        seed: Seeds the items' augmentation.
        pipeline: Transforms.
        keep_empty: Keep images without any instance, as background.
        exclude: Ids of images to leave out.
        reading: How the pictures are read, as `Reading.plain` writes it.
        **kwargs: For MMEngine's ``BaseDataset``, such as ``test_mode``.

    Raises:
        UsageError: The file is not usable, leaves no image, or has other categories.
    """

    def __init__(
        self,
        annotations: str | Path,
        images: str | Path,
        categories: Sequence[Mapping[str, Any]] | None = None,
        structure: str | Path | None = None,
        branch: str = "labelled",
        seed: int = 0,
        pipeline: Sequence[Any] = (),
        keep_empty: bool = True,
        exclude: Sequence[int] = (),
        reading: Mapping[str, Any] = MappingProxyType({}),
        **kwargs: Any,
    ) -> None:
        self._source = Path(annotations)
        self._keep_empty = keep_empty
        self._exclude = frozenset(int(image_id) for image_id in exclude)
        rule = Reading.from_plain(reading)
        self._set = coco.load(self._source, Path(images)).read_by(rule)
        own = [{"id": c.id, "name": c.name} for c in self._set.categories]
        if categories is not None:
            check_same_categories(
                as_categories(categories), self._set.categories, "the run", str(annotations)
            )
        super().__init__(categories or own, structure, branch, seed, pipeline, **kwargs)
        del self._set

    def load_data_list(self) -> list[dict[str, Any]]:
        """Make MMDetection's list of images with their instances."""
        label = {c["id"]: place for place, c in enumerate(self._metainfo["categories"])}
        infos = []
        for image in self._set.images:
            if image.id in self._exclude:
                continue
            info, size = image_info(image), (image.height, image.width)
            info["instances"] = [
                instance_info(label[own.category_id], own.rle, own.bbox, size, own.iscrowd)
                for own in self._set.instances.get(image.id, [])
            ]
            if info["instances"] or self._keep_empty:
                infos.append(info)
        if not infos:
            raise UsageError(f"{self._source}: no labelled image is left to take")
        return infos


@DATASETS.register_module()
class RefinedInstances(InstanceDataset):
    """Unlabelled images with the pseudo-labels of a refine artifact.

    Rows whose decision is ``refined`` or ``kept`` are labels; an image that the artifact set
    aside is left out. Where the losses weight labels by their quality, ``quality`` float32 (N,)
    holds score times agreement of each instance, divided by the mean of that over all the dataset's
    labels: a label counts the same in every batch, and the average label counts as 1. Where the
    losses have an ``ignore_score``, uncertain rows are ignored instances (see ``label_batches``),
    which MMDetection carries along.

    Labels are read from a ``LabelCache`` as they are asked for: the list of images holds none, and
    all data workers share the cache's pages.

    Args:
        artifact: Folder of the refine artifact, with ``refined/*.parquet`` in it.
        images: Where the images are: ``{"images": folder}``, with ``"annotations": COCO file``
            where a file lists them (its annotations are not read); or a list of (id, file name,
            path, height, width).
        categories: The classes in label order.
        structure: Folder of an artifact with structural targets of these images, or None.
        branch: "labelled" or "unlabelled".
        seed: Seeds the items' augmentation.
        pipeline: Transforms.
        keep_empty: Keep images without any pseudo-label, as background.
        exclude: Ids of images to leave out, such as those an earlier stage set aside.
        losses: The training's losses, which decide what of the labels is needed.
        cache: File of the label cache, made where it is missing or another artifact's; None keeps
            the labels in memory.
        reading: How the pictures are read, as `Reading.plain` writes it.
        **kwargs: For MMEngine's ``BaseDataset``.

    Raises:
        UsageError: The images or categories do not fit the artifact, or no image is left.
        ArtifactError: The artifact is damaged.
    """

    def __init__(
        self,
        artifact: str | Path,
        images: Mapping[str, Any] | Sequence[Sequence[Any]],
        categories: Sequence[Mapping[str, Any]],
        structure: str | Path | None = None,
        branch: str = "unlabelled",
        seed: int = 0,
        pipeline: Sequence[Any] = (),
        keep_empty: bool = True,
        exclude: Sequence[int] = (),
        losses: StudentLosses = StudentLosses(),
        cache: str | Path | None = None,
        reading: Mapping[str, Any] = MappingProxyType({}),
        **kwargs: Any,
    ) -> None:
        self._artifact, self._keep_empty = Path(artifact), keep_empty
        self._quality, self._mean_quality = losses.quality_weight, np.float32(1)
        own = as_categories(categories)
        path = None if cache is None else Path(cache)
        self._labels: LabelCache = open_labels(self._artifact, own, losses.ignore_score, path)
        self._images = _image_records(images)
        for image in self._images:
            image.reading = Reading.from_plain(reading)
        self._exclude = frozenset(int(image_id) for image_id in exclude)
        super().__init__(categories, structure, branch, seed, pipeline, **kwargs)
        del self._images

    def load_data_list(self) -> list[dict[str, Any]]:
        """Make MMDetection's list of images; ``labels_at`` is each one's place in the cache."""
        self._labels.check_images(self._images)
        places = {image_id: place for place, (image_id, _) in enumerate(self._labels.images())}
        left_out = self._exclude | set_aside(self._artifact)
        infos = []
        for image in self._images:
            place = places.get(image.id)
            if image.id in left_out or not (self._keep_empty or self._has_label(place)):
                continue
            infos.append({**image_info(image), "labels_at": place})
        if not infos:
            raise UsageError(f"{self._artifact}: no unlabelled image is left to train on")
        if self._quality:
            self._mean_quality = self._mean_of_labels([info["labels_at"] for info in infos])
        return infos

    def add_labels(self, info: dict[str, Any]) -> None:
        """Replace ``labels_at`` by MMDetection's description of the image's pseudo-labels."""
        place = info.pop("labels_at")
        if place is None:
            info["class_probs"] = np.zeros((0, len(self._metainfo["categories"])), np.float32)
            if self._quality:
                info["quality"] = np.zeros(0, np.float32)
            return
        labels = self._labels.read(place)
        size = (info["height"], info["width"])
        info["instances"] = [
            instance_info(label, rle, box, size, doubt)
            for label, rle, box, doubt in zip(
                labels.labels.tolist(),
                labels.rles,
                labels.boxes.tolist(),
                labels.ignored.tolist(),
                strict=True,
            )
        ]
        if labels.class_probs is not None:
            info["class_probs"] = labels.class_probs
        if self._quality:
            info["quality"] = labels.quality.astype(np.float32) / self._mean_quality

    def _has_label(self, place: int | None) -> bool:
        """Whether the image at a place of the cache has a label that is not ignored."""
        return place is not None and not self._labels.read(place).ignored.all()

    def _mean_of_labels(self, places: Sequence[int | None]) -> np.float32:
        """Mean quality of the images' labels, 1 without any; ignored instances do not count."""
        images = (self._labels.read(place) for place in places if place is not None)
        values = [labels.quality[~labels.ignored].astype(np.float32) for labels in images]
        mean = float(np.mean(np.concatenate(values))) if any(map(len, values)) else 0.0
        return np.float32(mean or 1.0)


def _image_records(source: Mapping[str, Any] | Sequence[Sequence[Any]]) -> list[ImageRecord]:
    if isinstance(source, Mapping):
        folder = Path(source["images"])
        if source.get("annotations"):
            return coco.load(Path(source["annotations"]), folder, masks=False).images
        return image_folder.load(folder).images
    return [
        ImageRecord(int(key), str(name), Path(path), int(height), int(width))
        for key, name, path, height, width in source
    ]
