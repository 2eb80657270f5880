"""Made labels of the sizes that COCO's have, as rows of the refined table and as a COCO dict.

Each instance is a polygon with a natural outline: an ellipse with waves that fade as they get
shorter. There are seven on an image of 480 x 640, as in COCO, and their areas are log-normal with
a median of 1.2 % of the image.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np

from s4m_pipeline.artifacts.seeds import rng
from s4m_pipeline.artifacts.shards import LARGEST
from s4m_pipeline.artifacts.tables import write_table
from s4m_pipeline.refinement.rle import bbox_area, encode_crop

SIZE = (480, 640)
"""Height and width of every image."""
PER_IMAGE = 7
CATEGORIES = [{"id": number + 1, "name": f"class {number + 1}"} for number in range(80)]
_POINTS = 96
_WAVES = 12


def made_rows(images: int, seed: int = 0, full: bool = False) -> list[dict[str, Any]]:
    """Make rows of the refined table.

    Args:
        images: How many images.
        seed: Decides everything.
        full: Fill in what only training needs, too: class distributions, the teacher's mask and
            the decision's figures. Otherwise those columns hold as little as they can.
    """
    rows = []
    for number in range(images):
        draw = rng(seed, "made labels", number)
        for place in range(PER_IMAGE):
            rows.append(_row(number + 1, place, draw, full))
    return rows


def write_rows(folder: Path, rows: list[dict[str, Any]]) -> list[Path]:
    """Write rows as a refine artifact's table, in files as large as COCO's are; give the files."""
    step = LARGEST * PER_IMAGE
    paths = []
    for shard, start in enumerate(range(0, len(rows), step)):
        paths.append(folder / "refined" / f"{shard:05d}.parquet")
        write_table(paths[-1], "refined", rows[start : start + step], CATEGORIES)
    return paths


def as_coco(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Write rows as COCO writes labels and results: RLE masks, boxes, areas, scores."""
    names = {row["image_id"]: row["file_name"] for row in rows}
    height, width = SIZE
    return {
        "info": {},
        "images": [
            {"id": key, "file_name": name, "height": height, "width": width}
            for key, name in names.items()
        ],
        "annotations": [
            {
                "id": number,
                "image_id": row["image_id"],
                "category_id": row["category_id"],
                "segmentation": {"size": [height, width], "counts": row["mask_rle"].decode()},
                "bbox": list(row["bbox"]),
                "area": row["area"],
                "iscrowd": 0,
                "score": row["score"],
            }
            for number, row in enumerate(rows, 1)
        ],
        "categories": CATEGORIES,
    }


NO_MASK = encode_crop(np.zeros((1, 1), bool), 0, 0, *SIZE)
"""A mask without a pixel: what stands for the teacher's in labels that have none."""


def _row(image_id: int, place: int, draw: np.random.Generator, full: bool) -> dict[str, Any]:
    rle, outline = _mask(draw)
    bbox, area = bbox_area(rle, *SIZE)
    row: dict[str, Any] = {
        "image_id": image_id,
        "file_name": f"{image_id:012d}.jpg",
        "height": SIZE[0],
        "width": SIZE[1],
        "instance_id": place,
        "category_id": int(draw.integers(1, len(CATEGORIES) + 1)),
        "score": float(np.float32(draw.uniform(0.7, 1))),
        "class_probs": [],
        "bbox": bbox,
        "area": area,
        "mask_rle": rle,
        "prompt_points": [],
        "soft_mask": b"",
        "soft_mask_box": [0, 0, 0, 0],
        "soft_mask_stride": 4.0,
        "teacher_mask_rle": NO_MASK,
        "candidate_ious": [],
        "candidate": -1,
        "agreement": 1.0,
        "area_ratio": 1.0,
        "decision": "refined",
        "reason_code": "",
        "reason": "",
    }
    if full:
        logits = draw.normal(size=len(CATEGORIES)) * 2
        probs = np.exp(logits) / np.exp(logits).sum()
        row["class_probs"] = probs.astype(np.float32).tolist()
        row["teacher_mask_rle"] = _filled(outline + draw.normal(size=2) * 2)
        row["agreement"] = float(np.float32(draw.uniform(0.5, 1)))
        row["decision"] = str(draw.choice(["refined", "kept", "dropped"], p=[0.8, 0.1, 0.1]))
    return row


def _mask(draw: np.random.Generator) -> tuple[bytes, np.ndarray]:
    """A mask of more than 20 pixels: its RLE and its outline, float64 (P, 2), x and y."""
    while True:
        outline = _outline(draw)
        rle = _filled(outline)
        if bbox_area(rle, *SIZE)[1] > 20:
            return rle, outline


def _outline(draw: np.random.Generator) -> np.ndarray:
    """Points around an instance, float64 (P, 2), x and y in pixels; some may be outside."""
    height, width = SIZE
    area = min(0.012 * float(np.exp(draw.normal() * 1.7)), 0.6) * height * width
    radius, slant = (area / np.pi) ** 0.5, float(np.exp(draw.normal() * 0.35))
    angle = np.linspace(0, 2 * np.pi, _POINTS, endpoint=False)
    reach = np.ones(_POINTS)
    for order in range(2, 2 + _WAVES):
        strength = draw.normal() * 0.35 / order
        reach += strength * np.cos(order * angle + draw.uniform(0, 2 * np.pi))
    reach = radius * np.maximum(reach, 0.15)
    x, y = reach * slant * np.cos(angle), reach / slant * np.sin(angle)
    turn = draw.uniform(0, 2 * np.pi)
    turned = np.stack([x * np.cos(turn) - y * np.sin(turn), x * np.sin(turn) + y * np.cos(turn)], 1)
    centre = np.array([draw.uniform(0, width), draw.uniform(0, height)])
    return turned + centre


def _filled(outline: np.ndarray) -> bytes:
    """The RLE of the pixels inside an outline."""
    height, width = SIZE
    low = np.clip(np.floor(outline.min(0)).astype(int), 0, [width - 1, height - 1])
    high = np.clip(np.ceil(outline.max(0)).astype(int) + 1, low + 1, [width, height])
    crop = np.zeros(tuple((high - low)[::-1]), np.uint8)
    cv2.fillPoly(crop, [np.round(outline - low).astype(np.int32)], 1)
    return encode_crop(crop.astype(bool), int(low[0]), int(low[1]), height, width)
