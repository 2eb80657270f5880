"""Random truth and random detections of it: shifted, eroded, doubled and made up."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
from pycocotools import mask as mask_api

from s4m_pipeline.data.image_set import Category, ImageRecord, ImageSet, Instance
from tests.small_sets import encode

CLASSES = ("cat", "dog", "fish")


def ellipse(height: int, width: int, generator: np.random.Generator, largest: int) -> np.ndarray:
    """A bool mask (height, width) of one ellipse, somewhere."""
    mask = np.zeros((height, width), np.uint8)
    centre = (int(generator.integers(width)), int(generator.integers(height)))
    axes = (int(generator.integers(3, largest)), int(generator.integers(3, largest)))
    cv2.ellipse(mask, centre, axes, float(generator.uniform(0, 180)), 0, 360, 1, -1)
    return mask.astype(bool)


def as_instance(mask: np.ndarray, category_id: int, iscrowd: bool = False) -> Instance:
    rle = encode(mask)
    box = mask_api.toBbox({"size": list(mask.shape), "counts": rle})
    x, y, w, h = (float(value) for value in box)
    return Instance(category_id, rle, (x, y, w, h), int(mask.sum()), iscrowd)


def as_detection(image_id: int, mask: np.ndarray, category_id: int, score: float) -> dict[str, Any]:
    counts = encode(mask)
    rle = {"size": list(mask.shape), "counts": counts}
    return {
        "image_id": image_id,
        "category_id": category_id,
        "score": score,
        "bbox": [float(value) for value in mask_api.toBbox(rle)],
        "segmentation": {**rle, "counts": counts.decode("ascii")},
    }


def disturbed(mask: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """The mask moved, and grown or shrunk, at random."""
    moved = np.roll(mask, generator.integers(-3, 4, 2), (0, 1)).astype(np.uint8)
    size = int(generator.integers(1, 5))
    change = cv2.erode if generator.random() < 0.5 else cv2.dilate
    return change(moved, np.ones((size, size), np.uint8)).astype(bool)


def detect(
    image_id: int, masks: list[tuple[int, np.ndarray]], generator: np.random.Generator
) -> list[dict[str, Any]]:
    """Detections of an image: of most instances, some twice or of another class, and false ones.

    Scores have two decimals, so that some are tied.
    """
    found = []
    for category_id, mask in masks:
        for _ in range(int(generator.choice([0, 1, 1, 1, 2, 3]))):
            shape = disturbed(mask, generator)
            label = category_id if generator.random() < 0.85 else 1 + category_id % len(CLASSES)
            if shape.any():
                score = round(float(generator.random()), 2)
                found.append(as_detection(image_id, shape, label, score))
    return found


def random_case(
    seed: int, images: int, crowds: bool = True, size: tuple[int, int] = (150, 210)
) -> tuple[ImageSet, list[dict[str, Any]]]:
    """Truth of three classes in all of COCO's sizes, the last image without any, and detections."""
    generator = np.random.default_rng(seed)
    truth = ImageSet([Category(n + 1, name) for n, name in enumerate(CLASSES)], [])
    detections: list[dict[str, Any]] = []
    for number in range(images):
        image_id = 10 * number + 3
        truth.images.append(ImageRecord(image_id, f"{number}.png", Path(f"{number}.png"), *size))
        masks = [
            (1 + int(generator.integers(3)), ellipse(*size, generator, int(largest)))
            for largest in generator.choice([12, 30, 90], 0 if number == images - 1 else 7)
        ]
        truth.instances[image_id] = [
            as_instance(mask, label, crowds and generator.random() < 0.2) for label, mask in masks
        ]
        detections += detect(image_id, masks, generator)
        false = [(1 + n % 3, ellipse(*size, generator, 40)) for n in range(3)]
        detections += detect(image_id, false, generator)
    return truth, detections


def shifted(truth: ImageSet, seed: int) -> list[dict[str, Any]]:
    """The true masks moved sideways at random, with random scores and some other classes."""
    generator = np.random.default_rng(seed)
    detections = []
    for image in truth.images:
        for instance in truth.instances.get(image.id, []):
            size = [image.height, image.width]
            mask = mask_api.decode({"size": size, "counts": instance.rle})
            rle = mask_api.encode(np.asfortranarray(np.roll(mask, generator.integers(-25, 25), 1)))
            other = generator.random() < 0.1
            detections.append(
                {
                    "image_id": image.id,
                    "category_id": truth.categories[0].id if other else instance.category_id,
                    "score": float(generator.random()),
                    "segmentation": rle,
                    "bbox": [float(value) for value in mask_api.toBbox(rle)],
                }
            )
    return detections
