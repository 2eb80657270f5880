"""Transforms for MMDetection pipelines: strict loading, structural targets, packing.

Coordinates of the augmented image are continuous, pixel i covering [i, i + 1), as MMDetection's
``homography_matrix`` takes them; the stored query points are indices of pixels.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from mmcv.transforms.base import BaseTransform
from mmdet.datasets.transforms import FilterAnnotations, PackDetInputs
from mmdet.registry import TRANSFORMS
from mmengine.structures import BaseDataElement

from s4m_pipeline.data.images import read_sized_image
from s4m_pipeline.data.reading import PLAIN
from s4m_pipeline.training_data import paste as paste  # registers its transform
from s4m_pipeline.training_data import ssd_colours as ssd_colours  # registers its transform
from s4m_pipeline.training_data import (
    strong_augmentation as strong_augmentation,  # registers its transforms
)
from s4m_pipeline.training_data.paste import TABLES
from s4m_pipeline.training_data.planes import planes
from s4m_pipeline.training_data.structure_store import StructureRow, open_structure

META_KEYS = (
    "img_id",
    "img_path",
    "ori_shape",
    "img_shape",
    "scale_factor",
    "flip",
    "flip_direction",
    "branch",
)


@TRANSFORMS.register_module()
class LoadImage(BaseTransform):
    """Read the image upright and whole; stands where MMDetection has ``LoadImageFromFile``.

    Args:
        channel_order: "bgr", which MMDetection's configs expect, or "rgb".
    """

    def __init__(self, channel_order: str = "bgr") -> None:
        if channel_order not in ("bgr", "rgb"):
            raise ValueError(f"channel_order is {channel_order!r}, not 'bgr' or 'rgb'")
        self.channel_order = channel_order

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Add ``img`` uint8 (H, W, 3), ``img_shape`` and ``ori_shape``.

        Raises:
            UsageError: The file is missing or broken, or its size is not the annotated one.
        """
        image = read_sized_image(
            Path(results["img_path"]),
            results.get("height") or 0,
            results.get("width") or 0,
            results.get("reading", PLAIN),
        )
        if self.channel_order == "bgr":
            image = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
        results["img"] = image
        results["img_shape"] = results["ori_shape"] = image.shape[:2]
        return results


@TRANSFORMS.register_module()
class LoadStructure(BaseTransform):
    """Read the image's structural targets, where its dataset has any.

    Adds ``structure``, a ``StructureRow``; nothing where there are no targets of the image.
    """

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Read the row of ``img_id`` from the artifact under ``structure_folder``."""
        if "structure_folder" in results:
            row = open_structure(results["structure_folder"]).read(results["img_id"])
            if row is not None:
                results["structure"] = row
        return results


@TRANSFORMS.register_module()
class FilterInstances(FilterAnnotations):
    """``FilterAnnotations`` that keeps ``gt_instances_ids``, and so what it points to, in step."""

    def transform(self, results: dict[str, Any]) -> dict[str, Any] | None:
        """Drop instances that are too small; takes the same arguments."""
        ids = results.get("gt_instances_ids")
        if ids is None or not len(ids):
            return super().transform(results)
        labels = results["gt_bboxes_labels"]
        # the place of each instance rides along where the parent filters the labels
        results["gt_bboxes_labels"] = np.arange(len(ids))
        filtered = super().transform(results)
        if filtered is None:
            return None
        left = filtered["gt_bboxes_labels"]
        filtered["gt_bboxes_labels"], filtered["gt_instances_ids"] = labels[left], ids[left]
        return filtered


@TRANSFORMS.register_module()
class PackInstances(PackDetInputs):
    """``PackDetInputs`` with branch, structural targets, class distributions and quality.

    Adds to the data sample:

    - ``structure``, where known: ``points`` float32 (P, 2), the middles of the query pixels as
      continuous x, y of the augmented image (some may lie outside of it), ``similarity`` uint8
      (P, g, g) over the whole original image, ``scale`` and ``offset`` float32 (P,), ``matrix``
      float32 (3, 3) from original to augmented continuous coordinates, ``size`` int64 (2,) the
      original height and width. Where instances were pasted in, ``hidden`` bool (H, W) marks
      the augmented image's pixels that the targets do not tell of.
    - ``gt_instances.class_probs`` float32 (N, K) and ``gt_instances.quality`` float32 (N,), where
      known.

    Args:
        meta_keys: What goes into the meta information.
    """

    def __init__(self, meta_keys: tuple[str, ...] = META_KEYS) -> None:
        super().__init__(meta_keys=tuple(meta_keys))

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Make ``inputs`` uint8 (3, H, W) and ``data_samples``."""
        packed = super().transform({**results, **_as_planes(results)})
        sample = packed["data_samples"]
        for table in TABLES:
            if table in results:
                sample.gt_instances.set_field(_kept_rows(results, table), table)
        if "structure" in results:
            matrix = results.get("homography_matrix")
            sample.structure = _structure_element(
                results["structure"], np.eye(3) if matrix is None else matrix
            )
            if "pasted" in results:
                sample.structure.hidden = torch.from_numpy(results["pasted"])
        return packed


def _as_planes(results: dict[str, Any]) -> dict[str, np.ndarray]:
    """``img`` as a view of its planes, which MMDetection's packing takes without a copy."""
    image = results.get("img")
    if image is None or image.ndim != 3:
        return {}
    return {"img": planes(image).transpose(1, 2, 0)}


def _kept_rows(results: dict[str, Any], table: str) -> torch.Tensor:
    """Rows of a table of the dataset's instances for the labels that are left."""
    ids = results["gt_instances_ids"]
    if len(ids) != len(results["gt_bboxes_labels"]):
        raise RuntimeError(
            f"a transform dropped instances without gt_instances_ids, so {table} would be "
            "mixed up; use FilterInstances instead of FilterAnnotations in this pipeline"
        )
    if "gt_ignore_flags" in results:
        ids = ids[results["gt_ignore_flags"] == 0]
    return torch.from_numpy(results[table][ids])


def _structure_element(row: StructureRow, matrix: np.ndarray) -> BaseDataElement:
    matrix = np.asarray(matrix, np.float64)
    middles = row.points.astype(np.float64) + 0.5
    points = middles @ matrix[:2, :2].T + matrix[:2, 2]
    return BaseDataElement(
        points=torch.from_numpy(points.astype(np.float32)),
        similarity=torch.from_numpy(row.similarity),
        scale=torch.from_numpy(row.scale),
        offset=torch.from_numpy(row.offset),
        matrix=torch.from_numpy(matrix.astype(np.float32)),
        size=torch.tensor([row.height, row.width]),
    )
