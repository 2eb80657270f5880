"""Small image sets on disk, for the tests of several rooms."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as mask_api

CATEGORIES = [{"id": 3, "name": "disc"}, {"id": 1, "name": "box"}]
SIZES = [(40, 60), (48, 48), (64, 36), (30, 50), (40, 60), (56, 56)]
"""Height and width of each image."""


def encode(mask: np.ndarray) -> bytes:
    """Encode a bool mask (H, W) with pycocotools."""
    return bytes(mask_api.encode(np.asfortranarray(mask.astype(np.uint8)))["counts"])


def rectangle(height: int, width: int, x: int, y: int, w: int, h: int) -> np.ndarray:
    """A bool mask (height, width) with one filled rectangle."""
    mask = np.zeros((height, width), bool)
    mask[y : y + h, x : x + w] = True
    return mask


def boxes_of(number: int) -> list[tuple[int, tuple[int, int, int, int]]]:
    """Category id and x, y, w, h of image ``number``'s instances; image 3 has none."""
    if number == 3:
        return []
    found = [(3, (4 + number, 5, 12, 10)), (1, (18, 15 - number, 9, 13))]
    return found if number % 2 else [*found, (3, (2, 16, 8, 6))]


def write_images(folder: Path) -> None:
    """Write the images: noise with each instance in a flat colour."""
    generator = np.random.default_rng(0)
    folder.mkdir(parents=True, exist_ok=True)
    for number, (height, width) in enumerate(SIZES):
        pixels = generator.integers(0, 255, (height, width, 3), dtype=np.uint8)
        for category_id, (x, y, w, h) in boxes_of(number):
            pixels[y : y + h, x : x + w] = (200, 40 * category_id, 30)
        Image.fromarray(pixels).save(folder / f"picture {number}.png")


def coco_content() -> dict[str, Any]:
    """The images' COCO file: polygons and RLE by turns, ids from 0, areas wrong."""
    content: dict[str, Any] = {
        "images": [
            {"id": n * 10, "file_name": f"picture {n}.png", "height": h, "width": w}
            for n, (h, w) in enumerate(SIZES)
        ],
        "annotations": [],
        "categories": [dict(category) for category in CATEGORIES],
    }
    for number, (height, width) in enumerate(SIZES):
        for category_id, (x, y, w, h) in boxes_of(number):
            segmentation: Any = [[x, y, x + w, y, x + w, y + h, x, y + h]]
            if len(content["annotations"]) % 2:
                counts = encode(rectangle(height, width, x, y, w, h)).decode()
                segmentation = {"size": [height, width], "counts": counts}
            content["annotations"].append(
                {
                    "id": len(content["annotations"]),
                    "image_id": number * 10,
                    "category_id": category_id,
                    "bbox": [0, 0, 1, 1],
                    "area": 7,
                    "iscrowd": 0,
                    "segmentation": segmentation,
                }
            )
    return content


@pytest.fixture
def small_set(tmp_path: Path) -> tuple[Path, Path]:
    """A COCO file and its folder of six images, one of them without instances."""
    folder = tmp_path / "images"
    write_images(folder)
    return write_json(tmp_path / "labels.json", coco_content()), folder


def write_json(path: Path, content: Any) -> Path:
    path.write_text(json.dumps(content))
    return path


def refined_row(
    image_id: int,
    name: str,
    size: tuple[int, int],
    category_id: int,
    probs: Sequence[float],
    masks: tuple[np.ndarray, np.ndarray],
    decision: str = "refined",
    **other: Any,
) -> dict[str, Any]:
    """A row of the refined table; masks are the final and the teacher's."""
    rows, columns = np.nonzero(masks[0])
    x, y = (int(columns.min()), int(rows.min())) if len(rows) else (0, 0)
    w = int(columns.max()) - x + 1 if len(rows) else 0
    h = int(rows.max()) - y + 1 if len(rows) else 0
    return {
        "image_id": image_id,
        "file_name": name,
        "height": size[0],
        "width": size[1],
        "instance_id": 0,
        "category_id": category_id,
        "score": 0.9,
        "class_probs": list(probs),
        "bbox": [x, y, w, h],
        "area": int(masks[0].sum()),
        "mask_rle": encode(masks[0]),
        "prompt_points": [],
        "soft_mask": b"",
        "soft_mask_box": [0, 0, 0, 0],
        "soft_mask_stride": 4.0,
        "teacher_mask_rle": encode(masks[1]),
        "candidate_ious": [],
        "candidate": -1,
        "agreement": 1.0,
        "area_ratio": 1.0,
        "decision": decision,
        "reason_code": "",
        "reason": "",
        **other,
    }
