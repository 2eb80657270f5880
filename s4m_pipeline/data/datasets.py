"""Datasets for MMDetection: labelled COCO sets and refined pseudo-labels.

Each takes a plain index, or the samplers' ``(index, draw)``: then all randomness of the item's
pipeline comes from the seed and the draw, so that data depend neither on workers nor on a resume.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from mmdet.registry import DATASETS

from s4m_pipeline.data.coco import read_coco, read_folder
from s4m_pipeline.data.image_set import ImageRecord, check_same_categories
from s4m_pipeline.data.instance_dataset import (
    InstanceDataset,
    as_categories,
    image_info,
    instance_info,
)
from s4m_pipeline.data.refined_labels import RefinedRow, read_refined
from s4m_pipeline.errors import UsageError


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
        **kwargs: Any,
    ) -> None:
        self._source = Path(annotations)
        self._keep_empty = keep_empty
        self._exclude = frozenset(int(image_id) for image_id in exclude)
        self._set = read_coco(self._source, Path(images))
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
            info = image_info(image)
            for found in self._set.instances.get(image.id, []):
                info["instances"].append(
                    instance_info(
                        label[found.category_id], found.rle, found.bbox, image, found.iscrowd
                    )
                )
            if info["instances"] or self._keep_empty:
                infos.append(info)
        if not infos:
            raise UsageError(f"{self._source}: no labelled image is left to take")
        return infos


@DATASETS.register_module()
class RefinedInstances(InstanceDataset):
    """Unlabelled images with the pseudo-labels of a refine artifact.

    Rows whose decision is ``refined`` or ``kept`` are labels; an image that the artifact set
    aside is left out. With ``quality``, ``quality`` float32 (N,) holds score times agreement of
    each instance over their mean over all the dataset's labels: a label counts the same whatever
    batch it is in, and a label on average counts as 1. With ``ignore_score``, uncertain rows are
    ignored instances (see ``read_refined``), which MMDetection carries along.

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
        quality: Give each label its quality.
        ignore_score: Least score of what is ignored; None ignores nothing.
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
        quality: bool = False,
        ignore_score: float | None = None,
        **kwargs: Any,
    ) -> None:
        self._artifact, self._keep_empty = Path(artifact), keep_empty
        self._quality, self._ignore_score = quality, ignore_score
        self._images = _image_records(images)
        self._exclude = frozenset(int(image_id) for image_id in exclude)
        super().__init__(categories, structure, branch, seed, pipeline, **kwargs)
        del self._images

    def load_data_list(self) -> list[dict[str, Any]]:
        """Make MMDetection's list of images with their pseudo-labels."""
        categories = as_categories(self._metainfo["categories"])
        found = read_refined(self._artifact, categories, self._ignore_score)
        found.check_images(self._images)
        infos = []
        for image in self._images:
            rows = found.rows.get(image.id, [])
            if image.id in self._exclude or image.id in found.set_aside:
                continue
            if not self._keep_empty and all(row.ignored for row in rows):
                continue
            infos.append(self._info(image, rows))
        if not infos:
            raise UsageError(f"{self._artifact}: no unlabelled image is left to train on")
        if self._quality:
            _normalise_quality(infos)
        return infos

    def _info(self, image: ImageRecord, rows: Sequence[RefinedRow]) -> dict[str, Any]:
        """MMDetection's results dict of an image."""
        info = image_info(image)
        info["instances"] = [
            instance_info(row.label, row.rle, row.bbox, image, row.ignored) for row in rows
        ]
        if all(row.class_probs is not None for row in rows):
            probs = [row.class_probs for row in rows]
            classes = len(self._metainfo["categories"])
            info["class_probs"] = np.asarray(probs, np.float32).reshape(len(rows), classes)
        if self._quality:
            info["quality"] = np.array([row.quality for row in rows], np.float32)
        return info


def _normalise_quality(infos: Sequence[dict[str, Any]]) -> None:
    """Divide all quality by its mean over the labels, in place; ignored instances do not count."""
    labels = [
        value
        for info in infos
        for value, instance in zip(info["quality"], info["instances"], strict=True)
        if not instance["ignore_flag"]
    ]
    mean = float(np.mean(labels)) if labels else 0.0
    for info in infos:
        info["quality"] = info["quality"] / np.float32(mean or 1.0)


def _image_records(source: Mapping[str, Any] | Sequence[Sequence[Any]]) -> list[ImageRecord]:
    if isinstance(source, Mapping):
        folder = Path(source["images"])
        if source.get("annotations"):
            return read_coco(Path(source["annotations"]), folder, masks=False).images
        return read_folder(folder).images
    return [
        ImageRecord(int(key), str(name), Path(path), int(height), int(width))
        for key, name, path, height, width in source
    ]
