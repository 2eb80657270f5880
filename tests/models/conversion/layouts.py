"""Generated scenes in the folders and under the names of COCO and of Cityscapes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from pycocotools import mask as coco_mask

from s4m_pipeline.data.formats.cityscapes import convert
from s4m_pipeline.data.scenes.scenes import generate_scenes

LABEL_IDS = (24, 25, 26, 27, 28, 31, 32, 33)
"""Cityscapes' ids of the classes with instances."""


def coco_layout(root: Path, count: int = 4, size: int = 96) -> dict[str, Any]:
    """Write ``train2017/000000000001.jpg`` and so on, and ``annotations/instances_train2017.json``.

    Returns:
        Config of the dataset.
    """
    listed = generate_scenes(root, count, 7, "train2017", size=size)
    content = json.loads(listed.read_text())
    listed.unlink()
    for image in content["images"]:
        name = f"{image['id']:012d}.jpg"
        (root / "train2017" / image["file_name"]).rename(root / "train2017" / name)
        image["file_name"] = name
    annotations = root / "annotations" / "instances_train2017.json"
    annotations.parent.mkdir()
    annotations.write_text(json.dumps(content))
    return _dataset(annotations, root / "train2017")


def cityscapes_layout(root: Path, count: int = 4, size: int = 96) -> dict[str, Any]:
    """Write frames twice as wide as high under ``leftImg8bit`` and ``gtFine``, and convert them.

    Returns:
        Config of the dataset.
    """
    listed = generate_scenes(root / "scenes", 2 * count, 7, "train", size=size)
    content = json.loads(listed.read_text())
    for number in range(count):
        halves = [_half(root / "scenes" / "train", content, 2 * number + k) for k in (0, 1)]
        frame = f"aachen/aachen_{number:06d}_000019"
        for folder, suffix, parts in (
            ("leftImg8bit", "leftImg8bit", [half[0] for half in halves]),
            ("gtFine", "gtFine_instanceIds", [half[1] for half in halves]),
        ):
            path = root / folder / "train" / f"{frame}_{suffix}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.concatenate(parts, axis=1)).save(path)
    convert(root, "train", root / "cityscapes_train.json")
    return _dataset(root / "cityscapes_train.json", root / "leftImg8bit" / "train")


def _half(folder: Path, content: dict[str, Any], index: int) -> tuple[np.ndarray, np.ndarray]:
    """A scene's pixels, and its instance ids as Cityscapes writes them (uint16)."""
    image = content["images"][index]
    pixels = np.asarray(Image.open(folder / image["file_name"]))
    ids = np.full(pixels.shape[:2], 7, np.uint16)  # road
    own = [a for a in content["annotations"] if a["image_id"] == image["id"]]
    for number, annotation in enumerate(own):
        mask = coco_mask.decode(annotation["segmentation"]).astype(bool)
        # the right half's instances are other ones than the left half's
        ids[mask] = LABEL_IDS[annotation["category_id"] - 1] * 1000 + number + 100 * (index % 2)
    return pixels, ids


def _dataset(annotations: Path, images: Path) -> dict[str, Any]:
    return {"type": "CocoInstances", "annotations": str(annotations), "images": str(images)}
