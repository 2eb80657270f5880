"""What the datasets for MMDetection share: categories, branches, structure, seeded items."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from mmdet.datasets import BaseDetDataset
from mmengine.registry import DefaultScope

from s4m_pipeline.artifacts.seeds import seed_of
from s4m_pipeline.data.image_set import Category, ImageRecord
from s4m_pipeline.errors import ArtifactError
from s4m_pipeline.training_data.seeding import seeded
from s4m_pipeline.training_data.structure_store import open_structure


class InstanceDataset(BaseDetDataset):
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
        own = [{"id": int(c["id"]), "name": str(c["name"])} for c in categories]
        metainfo = {"classes": tuple(c["name"] for c in own), "categories": own}
        # without a Runner there is no scope, and "Resize" would be mmcv's, not MMDetection's
        with DefaultScope.overwrite_default_scope("mmdet"):
            super().__init__(metainfo=metainfo, pipeline=list(pipeline), **kwargs)
        if self.structure is not None:
            with suppress(ArtifactError):  # told where a row is read
                open_structure(self.structure)  # here, so that forked workers share its index

    def __getitem__(self, item: int | tuple[int, int]) -> dict[str, Any]:
        """Run the pipeline over an item; ``(index, draw)`` seeds it, a plain index does not."""
        if isinstance(item, (tuple, list)):
            with seeded(self.seed, int(item[1])):
                return super().__getitem__(int(item[0]))
        return super().__getitem__(item)

    def prepare_until(self, index: int, draw: int, transform: type) -> dict[str, Any] | None:
        """Run the pipeline over an item as far as its first ``transform``.

        Args:
            index: Place of the image.
            draw: Seeds the item's randomness.
            transform: Class of the transform that is waited for.

        Returns:
            The results dict before it; None where a transform refused the image.
        """
        steps = self.pipeline.transforms[: self._place_of(transform)]
        with seeded(self.seed, draw):
            return _run(steps, self.get_data_info(index))

    def finish_from(
        self, results: dict[str, Any], draw: int, transform: type
    ) -> dict[str, Any] | None:
        """Run the pipeline from its first ``transform`` on, with random numbers of its own."""
        steps = self.pipeline.transforms[self._place_of(transform) :]
        with seeded(seed_of(self.seed, transform.__name__), draw):
            return _run(steps, results)

    def _place_of(self, transform: type) -> int:
        kinds = [type(step) for step in self.pipeline.transforms]
        return kinds.index(transform)

    def get_data_info(self, idx: int) -> dict[str, Any]:
        """Give the results dict that the pipeline starts from."""
        info = super().get_data_info(idx)
        self.add_labels(info)
        info["branch"] = self.branch
        info["gt_instances_ids"] = np.arange(len(info["instances"]))
        if self.structure is not None:
            info["structure_folder"] = self.structure
        return info

    def add_labels(self, info: dict[str, Any]) -> None:
        """Add to an image's results dict what of its labels is not in the list of images.

        Args:
            info: As ``load_data_list`` made it; changed in place.
        """


def _run(steps: Sequence[Any], results: dict[str, Any] | None) -> dict[str, Any] | None:
    """Apply transforms; None as soon as one refuses the image."""
    for step in steps:
        if results is None:
            return None
        results = step(results)
    return results


def image_info(image: ImageRecord) -> dict[str, Any]:
    """MMDetection's description of an image without instances."""
    return {
        "img_path": str(image.path),
        "img_id": image.id,
        "file_name": image.file_name,
        "height": image.height,
        "width": image.width,
        "reading": image.reading,
        "instances": [],
    }


def instance_info(
    label: int, rle: bytes, bbox: Sequence[float], size: tuple[int, int], ignore: bool = False
) -> dict[str, Any]:
    """MMDetection's description of an instance.

    Args:
        label: Place of its class.
        rle: COCO's compressed RLE counts.
        bbox: x, y, width, height in pixels.
        size: Its image's height and width in pixels.
        ignore: Whether it is to be ignored.
    """
    x, y, width, height = bbox
    return {
        "bbox": [x, y, x + width, y + height],
        "bbox_label": label,
        "mask": {"size": list(size), "counts": rle.decode("ascii")},
        "ignore_flag": int(ignore),
    }


def as_categories(categories: Sequence[Mapping[str, Any]]) -> list[Category]:
    """Categories as the run's configuration writes them."""
    return [Category(int(c["id"]), str(c["name"])) for c in categories]
