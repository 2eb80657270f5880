"""Generated scenes with exact instance masks, for the demo, the tests and the demo's segmenter.

A scene is a square image of overlapping, shaded, patterned objects on a cluttered ground. Two
styles share the drawing code and nothing else: ``demo`` (what the demo's teacher and student
learn) and ``pretrain`` (what the demo's segmenter is trained on). Everything follows from a seed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image
from pycocotools import mask as coco_mask

from s4m_pipeline.artifacts.seeds import rng as seeded_rng
from s4m_pipeline.data.formats.coco.writer import save_content
from s4m_pipeline.data.scenes.shapes import SHAPES, draw_shape
from s4m_pipeline.data.scenes.textures import DEMO_LOOKS, GROUNDS, paint_surface
from s4m_pipeline.errors import UsageError

MIN_VISIBLE_SHARE = 0.4
"""Least share of an object that later objects may leave visible."""

MIN_VISIBLE_PIXELS = 60
"""Least visible area in a 128 px scene, in pixels; grows with the scene's area."""

_JPEG_QUALITY = 95


@dataclass(slots=True)
class Layer:
    """One object before it is composed.

    Attributes:
        mask: bool (H, W), the whole object.
        surface: float32 (H, W, 3), its colours 0..255.
        shadow: float32 (H, W), share of light that its shadow takes from what lies below.
        label: Class index.
    """

    mask: np.ndarray
    surface: np.ndarray
    shadow: np.ndarray
    label: int


@dataclass(slots=True)
class Scene:
    """A scene and its truth.

    Attributes:
        image: uint8 (H, W, 3) RGB.
        masks: bool (H, W) each, the visible part of each object; disjoint.
        labels: Class index of each object, into ``class_names(style)``.
    """

    image: np.ndarray
    masks: list[np.ndarray]
    labels: list[int]


def class_names(style: str = "demo") -> list[str]:
    """Names of a style's classes in label order.

    Raises:
        UsageError: The style is unknown.
    """
    if style not in SHAPES:
        raise UsageError(f"unknown scene style {style!r}: choose from {', '.join(sorted(SHAPES))}")
    return list(SHAPES[style])


def compose(ground: np.ndarray, layers: Sequence[Layer]) -> tuple[np.ndarray, list[np.ndarray]]:
    """Paint layers over a ground, later ones on top.

    Args:
        ground: float32 (H, W, 3), values 0..255.
        layers: Objects from the bottom to the top.

    Returns:
        The picture float32 (H, W, 3) and each object's visible pixels, bool (H, W).
    """
    picture = ground.copy()
    visible: list[np.ndarray] = []
    for layer in layers:
        picture *= (1.0 - layer.shadow)[..., None]
        picture[layer.mask] = layer.surface[layer.mask]
        visible = [mask & ~layer.mask for mask in visible]
        visible.append(layer.mask.copy())
    return picture, visible


def _shadow(rng: np.random.Generator, mask: np.ndarray, light: float, size: int) -> np.ndarray:
    """Soft shadow of an object, shifted away from the light: float32 (H, W) in 0..1."""
    reach = rng.uniform(0.01, 0.035) * size
    move = np.array([[1, 0, reach * np.cos(light)], [0, 1, reach * np.sin(light)]], np.float32)
    shifted = cv2.warpAffine(mask.astype(np.float32), move, (size, size))
    return cv2.GaussianBlur(shifted, (0, 0), size / 80) * np.float32(rng.uniform(0.2, 0.6))


def _choose_masks(rng: np.random.Generator, size: int, style: str) -> list[tuple[np.ndarray, int]]:
    """Place 2 to 6 objects so that each stays visible enough; fewer where there is no room."""
    names = class_names(style)
    least = MIN_VISIBLE_PIXELS * (size / 128) ** 2
    placed: list[tuple[np.ndarray, int]] = []
    visible: list[np.ndarray] = []
    wanted = int(rng.integers(2, 7))
    for _ in range(6 * wanted):
        if len(placed) == wanted:
            break
        label = int(rng.integers(len(names)))
        radius = rng.uniform(9.0, 30.0) * size / 128
        mask = draw_shape(rng, style, names[label], radius, size)
        remains = [old & ~mask for old in visible]
        areas = [int(rest.sum()) for rest in remains]
        enough = [
            area >= max(least, MIN_VISIBLE_SHARE * old.sum())
            for area, (old, _) in zip(areas, placed, strict=True)
        ]
        if mask.sum() < least or not all(enough):
            continue
        placed.append((mask, label))
        visible = [*remains, mask]
    return placed


def make_scene(rng: np.random.Generator, size: int = 128, style: str = "demo") -> Scene:
    """Draw one scene.

    Args:
        rng: Random generator; the same state gives the same scene.
        size: Side of the image in pixels, at least 32.
        style: ``demo`` or ``pretrain``.

    Returns:
        The scene with its visible masks.

    Raises:
        UsageError: The style is unknown or the size too small.
    """
    if size < 32:
        raise UsageError(f"a scene must be at least 32 px wide, not {size}")
    class_names(style)
    ground = GROUNDS[style](rng, size)
    mean = ground.mean(axis=(0, 1))
    light = rng.uniform(0.0, 2.0 * np.pi)
    looks = [DEMO_LOOKS.get(name) for name in class_names(style)]
    layers = [
        Layer(
            mask,
            paint_surface(rng, style, mask, mean, looks[label]),
            _shadow(rng, mask, light, size),
            label,
        )
        for mask, label in _choose_masks(rng, size, style)
    ]
    picture, masks = compose(ground, layers)
    picture = cv2.GaussianBlur(picture, (0, 0), rng.uniform(0.35, 0.75))
    picture += rng.normal(0.0, rng.uniform(1.0, 7.0), picture.shape).astype(np.float32)
    image = np.clip(np.round(picture), 0, 255).astype(np.uint8)
    return Scene(image, masks, [layer.label for layer in layers])


def _annotation(number: int, image_id: int, label: int, mask: np.ndarray) -> dict[str, Any]:
    """COCO annotation of one visible mask, RLE with a text ``counts``."""
    rle = coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8))
    return {
        "id": number,
        "image_id": image_id,
        "category_id": label + 1,
        "iscrowd": 0,
        "area": int(mask.sum()),
        "bbox": [float(value) for value in coco_mask.toBbox(rle)],
        "segmentation": {"size": list(mask.shape), "counts": rle["counts"].decode("ascii")},
    }


def generate_scenes(
    folder: Path,
    count: int,
    seed: int,
    split: str,
    size: int = 128,
    style: str = "demo",
    with_masks: bool = True,
) -> Path:
    """Write a set of scenes as JPEG files and one COCO file.

    Images go to ``folder/split/000001.jpg`` and so on; ``file_name`` is relative to
    ``folder/split``. Scene i depends on the seed, style, split, size and i alone, so a longer set
    begins with a shorter one.

    Args:
        folder: Where to write; made when missing.
        count: Number of scenes, at least 1.
        seed: Seed of the set.
        split: Name of the set, such as ``labelled`` or ``valid``; part of the random key.
        size: Side of the images in pixels.
        style: ``demo`` or ``pretrain``.
        with_masks: Write the truth; without it the COCO file has images and categories only.

    Returns:
        Path of the COCO file, ``folder/split.json``.

    Raises:
        UsageError: The count, size or style is not valid.
    """
    if count < 1:
        raise UsageError(f"a set of scenes needs at least one scene, not {count}")
    categories = [{"id": i + 1, "name": name} for i, name in enumerate(class_names(style))]
    images_folder = folder / split
    images_folder.mkdir(parents=True, exist_ok=True)
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for index in range(count):
        scene = make_scene(seeded_rng(seed, "scene", style, split, size, index), size, style)
        name = f"{index + 1:06d}.jpg"
        Image.fromarray(scene.image).save(
            images_folder / name, quality=_JPEG_QUALITY, subsampling=0
        )
        images.append({"id": index + 1, "file_name": name, "height": size, "width": size})
        if with_masks:
            for label, mask in zip(scene.labels, scene.masks, strict=True):
                annotations.append(_annotation(len(annotations) + 1, index + 1, label, mask))
    path = folder / f"{split}.json"
    content = {"images": images, "annotations": annotations, "categories": categories}
    save_content(content, path)
    return path
