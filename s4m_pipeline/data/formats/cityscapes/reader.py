"""Cityscapes' ground truth: instance id images to masks in RLE. No torch.

Each pixel of a ``*_gtFine_instanceIds.png`` holds label id x 1000 + number where an object of a
class with instances was drawn by itself, and else the label id alone. So a bare id of such a class
is a group of objects drawn as one ("cargroup"). Cityscapes' own evaluation neither asks for a group
nor counts it against a detection; COCO calls that a crowd. Pixels of labels left out of the
evaluation (void) forgive detections as well: each image carries them as ``void``, an RLE.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools import mask as mask_api

from s4m_pipeline.config_data import MOST_MEGAPIXELS
from s4m_pipeline.data.images import image_size
from s4m_pipeline.data.opened import opened
from s4m_pipeline.errors import UsageError

CLASSES: Mapping[int, str] = {
    24: "person",
    25: "rider",
    26: "car",
    27: "truck",
    28: "bus",
    31: "train",
    32: "motorcycle",
    33: "bicycle",
}
"""Cityscapes' label ids, kept as category ids, of the classes that it evaluates by instances."""
VOID_LABELS = frozenset({0, 1, 2, 3, 4, 5, 6, 9, 10, 14, 15, 16, 18, 29, 30})
"""Label ids that Cityscapes leaves out of its evaluation."""
FIRST_INSTANCE = 1000
"""Pixel values from here on are single objects."""


def read_instance_ids(path: Path) -> np.ndarray:
    """Read an instance id image.

    Returns:
        int32 array (height, width).

    Raises:
        UsageError: It is missing, broken, or not an image of whole numbers in one channel.
    """
    with opened(path, MOST_MEGAPIXELS) as image:
        mode, values = image.mode, np.asarray(image)
    if values.ndim != 2 or mode not in ("I", "I;16", "I;16B", "L"):
        raise UsageError(f"{path}: not an image of instance ids (mode {mode})")
    return values.astype(np.int32)


def masks_by_value(values: np.ndarray) -> dict[int, dict[str, Any]]:
    """Encode the region of each value that an image has.

    Works on the runs of equal values down the columns, which are what an RLE counts; so the time
    does not grow with the number of values.

    Args:
        values: Whole numbers, (height, width).

    Returns:
        COCO's compressed RLE dicts (``counts`` as str) by value, in rising order.
    """
    height, width = values.shape
    flat = values.ravel(order="F")
    starts = np.flatnonzero(np.diff(flat, prepend=flat[:1] - 1))
    ends = np.append(starts[1:], flat.size)
    of_run = flat[starts]
    order = np.argsort(of_run, kind="stable")
    distinct, first = np.unique(of_run[order], return_index=True)
    return {
        int(value): _encode_runs(starts[runs], ends[runs], height, width)
        for value, runs in zip(distinct, np.split(order, first[1:]), strict=True)
    }


def to_annotations(values: np.ndarray) -> tuple[list[dict[str, Any]], dict[str, Any] | None]:
    """Turn an instance id image into COCO annotations.

    Args:
        values: Pixel values of an instance id image, (height, width).

    Returns:
        Annotations without ``id`` and ``image_id``, in the order of their value, which each has as
        ``instance_id``; and the RLE of void, None where no pixel is void.
    """
    masks = masks_by_value(values)
    annotations = []
    for value, rle in masks.items():
        label = value // FIRST_INSTANCE if value >= FIRST_INSTANCE else value
        if label not in CLASSES:
            continue
        annotations.append(
            {
                "category_id": label,
                "iscrowd": int(value < FIRST_INSTANCE),
                "segmentation": rle,
                "area": int(mask_api.area(rle)),
                "bbox": [float(number) for number in mask_api.toBbox(rle)],
                "instance_id": value,
            }
        )
    void = [rle for value, rle in masks.items() if value in VOID_LABELS]
    return annotations, _as_text(mask_api.merge(void)) if void else None


def convert_image(image: Path, instance_ids: Path) -> dict[str, Any]:
    """Convert one image's ground truth.

    Args:
        image: The photograph, of which only the size is taken.
        instance_ids: Its instance id image.

    Returns:
        ``height`` and ``width`` in pixels, ``annotations`` and ``void`` of ``to_annotations``.

    Raises:
        UsageError: One of them cannot be read, or their sizes differ.
    """
    values = read_instance_ids(instance_ids)
    height, width = image_size(image)
    if values.shape != (height, width):
        raise UsageError(
            f"{instance_ids}: {values.shape[1]} x {values.shape[0]} pixels, "
            f"its image has {width} x {height}"
        )
    annotations, void = to_annotations(values)
    return {"height": height, "width": width, "annotations": annotations, "void": void}


def _encode_runs(starts: np.ndarray, ends: np.ndarray, height: int, width: int) -> dict[str, Any]:
    """Encode the pixels from each start to before its end, counted down the columns."""
    edges = np.column_stack((starts, ends)).ravel()
    counts = np.diff(edges, prepend=0, append=height * width)
    counts = counts if counts[-1] else counts[:-1]  # nothing after the last pixel
    rle = {"size": [height, width], "counts": counts.tolist()}
    return _as_text(mask_api.frPyObjects(rle, height, width))


def _as_text(rle: Mapping[str, Any]) -> dict[str, Any]:
    return {"size": [int(side) for side in rle["size"]], "counts": rle["counts"].decode("ascii")}
