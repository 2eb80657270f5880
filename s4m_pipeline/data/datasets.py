"""Datasets for MMDetection: labelled COCO sets, refined pseudo-labels, and both mixed.

Each takes a plain index, or the samplers' ``(index, draw)``: then all randomness of the item's
pipeline comes from the seed and the draw, so that data depend neither on workers nor on a resume.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from mmdet.datasets import BaseDetDataset
from mmdet.registry import DATASETS
from mmengine.registry import DefaultScope
from torch.utils.data import Dataset

from s4m_pipeline.data.coco import read_coco, read_folder
from s4m_pipeline.data.image_set import Category, ImageRecord, check_same_categories
from s4m_pipeline.data.refined_labels import read_refined
from s4m_pipeline.data.seeding import seeded
from s4m_pipeline.errors import UsageError


class _InstanceDataset(BaseDetDataset):
    """What both kinds of dataset share: categories, branch, structural targets, seeded items.

    Args:
        categories: ``{"id", "name"}`` of each class; a class's label is its place.
        structure: Folder of the artifact with the structural targets of these images, or None.
        branch: "labelled" or "unlabelled"; stands in each item's meta information.
        seed: Seeds the items' augmentation.
        pipeline: Transforms, as MMDetection's configs write them.
        **kwargs: For MMEngine's ``BaseDataset``.
    """

    def __init__(
        self,
        categories: Sequence[Mapping[str, Any]],
        structure: str | Path | None,
        branch: str,
        seed: int,
        pipeline: Sequence[Any],
        **kwargs: Any,
    ) -> None:
        self.branch, self.seed = branch, seed
        self.structure = None if structure is None else str(structure)
        kept = [{"id": int(c["id"]), "name": str(c["name"])} for c in categories]
        metainfo = {"classes": tuple(c["name"] for c in kept), "categories": kept}
        # without a Runner there is no scope, and "Resize" would be mmcv's, not MMDetection's
        with DefaultScope.overwrite_default_scope("mmdet"):
            super().__init__(metainfo=metainfo, pipeline=list(pipeline), **kwargs)

    def __getitem__(self, item: int | tuple[int, int]) -> dict[str, Any]:
        """Run the pipeline over an item; ``(index, draw)`` seeds it, a plain index does not."""
        if isinstance(item, (tuple, list)):
            with seeded(self.seed, int(item[1])):
                return super().__getitem__(int(item[0]))
        return super().__getitem__(item)

    def get_data_info(self, idx: int) -> dict[str, Any]:
        """Give the results dict that the pipeline starts from."""
        info = super().get_data_info(idx)
        info["branch"] = self.branch
        info["gt_instances_ids"] = np.arange(len(info["instances"]))
        if self.structure is not None:
            info["structure_folder"] = self.structure
        return info


def _image_info(image: ImageRecord) -> dict[str, Any]:
    return {
        "img_path": str(image.path),
        "img_id": image.id,
        "file_name": image.file_name,
        "height": image.height,
        "width": image.width,
        "instances": [],
    }


def _instance_info(
    label: int, rle: bytes, bbox: Sequence[float], image: ImageRecord, ignore: bool = False
) -> dict[str, Any]:
    x, y, width, height = bbox
    return {
        "bbox": [x, y, x + width, y + height],
        "bbox_label": label,
        "mask": {"size": [image.height, image.width], "counts": rle.decode("ascii")},
        "ignore_flag": int(ignore),
    }


@DATASETS.register_module()
class CocoInstances(_InstanceDataset):
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
                _as_categories(categories), self._set.categories, "the run", str(annotations)
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
            info = _image_info(image)
            for found in self._set.instances.get(image.id, []):
                info["instances"].append(
                    _instance_info(
                        label[found.category_id], found.rle, found.bbox, image, found.iscrowd
                    )
                )
            if info["instances"] or self._keep_empty:
                infos.append(info)
        if not infos:
            raise UsageError(f"{self._source}: no labelled image is left to take")
        return infos


@DATASETS.register_module()
class RefinedInstances(_InstanceDataset):
    """Unlabelled images with the pseudo-labels of a refine artifact.

    Rows whose decision is ``refined`` or ``kept`` are labels; an image that the artifact set
    aside is left out.

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
        **kwargs: Any,
    ) -> None:
        self._artifact, self._keep_empty = Path(artifact), keep_empty
        self._images = _image_records(images)
        self._exclude = frozenset(int(image_id) for image_id in exclude)
        super().__init__(categories, structure, branch, seed, pipeline, **kwargs)
        del self._images

    def load_data_list(self) -> list[dict[str, Any]]:
        """Make MMDetection's list of images with their pseudo-labels."""
        categories = _as_categories(self._metainfo["categories"])
        found = read_refined(self._artifact, categories)
        found.check_images(self._images)
        infos = []
        for image in self._images:
            rows = found.rows.get(image.id, [])
            if image.id in self._exclude or image.id in found.set_aside:
                continue
            if not rows and not self._keep_empty:
                continue
            info = _image_info(image)
            info["instances"] = [
                _instance_info(row.label, row.rle, row.bbox, image) for row in rows
            ]
            if all(row.class_probs is not None for row in rows):
                probs = [row.class_probs for row in rows]
                table = np.asarray(probs, np.float32).reshape(len(rows), len(categories))
                info["class_probs"] = table
            infos.append(info)
        if not infos:
            raise UsageError(f"{self._artifact}: no unlabelled image is left to train on")
        return infos


def _as_categories(categories: Sequence[Mapping[str, Any]]) -> list[Category]:
    return [Category(int(c["id"]), str(c["name"])) for c in categories]


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


@DATASETS.register_module()
class MixedDataset(Dataset[dict[str, Any]]):
    """A labelled and an unlabelled dataset one after the other, for ``MixedSampler``.

    Args:
        labelled: The labelled dataset or its config.
        unlabelled: The unlabelled dataset or its config; of the same classes.

    Raises:
        UsageError: Their categories differ, or come in another order: a label is a place in it.
    """

    def __init__(self, labelled: Any, unlabelled: Any) -> None:
        self.labelled = DATASETS.build(labelled) if isinstance(labelled, dict) else labelled
        self.unlabelled = DATASETS.build(unlabelled) if isinstance(unlabelled, dict) else unlabelled
        first, second = (
            _as_categories(side.metainfo["categories"]) for side in (self.labelled, self.unlabelled)
        )
        check_same_categories(first, second, "the labelled images", "the unlabelled images")
        if first != second:
            raise UsageError(
                "the labelled and the unlabelled images have the same categories in another order; "
                "give both datasets the same `categories`"
            )

    @property
    def metainfo(self) -> dict[str, Any]:
        """The labelled dataset's classes and categories."""
        return dict(self.labelled.metainfo)

    @property
    def labelled_count(self) -> int:
        """Number of labelled images; they come first."""
        return len(self.labelled)

    def __len__(self) -> int:
        """Number of images of both."""
        return len(self.labelled) + len(self.unlabelled)

    def __getitem__(self, item: int | tuple[int, int]) -> dict[str, Any]:
        """Take an item, by index or by ``(index, draw)``."""
        index, draw = item if isinstance(item, (tuple, list)) else (item, None)
        side = self.labelled if index < len(self.labelled) else self.unlabelled
        index = index if side is self.labelled else index - len(self.labelled)
        return side[index if draw is None else (index, draw)]

    def full_init(self) -> None:
        """Load both lists now, before workers are started."""
        self.labelled.full_init()
        self.unlabelled.full_init()
