"""Made-up instances with the sizes of real ones, and a SAM 2 that answers with their masks.

Each instance has a wobbly outline; one in six also has a second part, as behind an occluder, and
one in ten a speck far away, as SAM 2 draws them. Logits are smooth: a slope of about three cells
at the outline, then flat with ripples.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy.ndimage import gaussian_filter
from scipy.special import expit, ndtri
from torch import Tensor

from s4m_pipeline.artifacts.seeds import rng
from s4m_pipeline.refinement.instances import TeacherInstance
from s4m_pipeline.refinement.rle import bbox_area, encode_crop
from s4m_pipeline.refinement.soft_masks import (
    decode_soft_mask,
    encode_soft_mask,
    soft_mask_to_pixels,
)

IMAGE_SIZE = 1024
"""Side of the model's input in pixels."""
CELLS = 256
"""Side of the model's mask logits."""
STRIDE = 4
"""Pixels per cell of the teacher's masks."""


@dataclass(frozen=True, slots=True)
class Scene:
    """An image with its instances.

    Attributes:
        image: uint8 (H, W, 3), smooth colours with noise.
        teacher_logits: float32 (N, H / 4, W / 4), the teacher's mask logits.
        instances: The teacher's predictions, without points.
        answers: float32 (N, 4, 256, 256), the segmenter's mask logits: the single-mask output,
            then a part, the whole and more than the whole.
        scores: float32 (N, 4), the segmenter's scores of them.
    """

    image: np.ndarray
    teacher_logits: np.ndarray
    instances: list[TeacherInstance]
    answers: Tensor
    scores: Tensor


def made_scene(
    height: int, width: int, count: int, median: float, spread: float, seed: int
) -> Scene:
    """Make an image and its instances.

    Their areas are the quantiles of a log-normal distribution.

    Args:
        height: The image's height in pixels, a multiple of 4.
        width: The image's width in pixels, a multiple of 4.
        count: How many instances.
        median: Median area as a share of the image.
        spread: Standard deviation of the areas' logarithm.
        seed: Decides everything.
    """
    places = (np.arange(count) + 0.5) / count
    areas = np.minimum(median * np.exp(spread * ndtri(places)), 0.5) * height * width
    answers = np.zeros((count, 4, CELLS, CELLS), np.float32)
    teacher = np.zeros((count, height // STRIDE, width // STRIDE), np.float32)
    for n, area in enumerate(areas):
        draw = rng(seed, "instance", n)
        shape = _Shape.drawn(draw, float(area), height, width, n % 6 == 1, n % 10 == 3)
        for answer, scale in zip(answers[n], (1, 0.6, 1, 1.25), strict=True):
            answer[:] = shape.logits((CELLS, CELLS), scale, draw)
        teacher[n] = shape.logits(teacher.shape[1:], 1.05, draw)
    draw = rng(seed, "image")
    colours = gaussian_filter(draw.normal(size=(height, width, 3)), (8, 8, 0)) * 2000
    image = np.clip(colours + draw.normal(size=colours.shape) * 8 + 128, 0, 255).astype(np.uint8)
    scores = torch.from_numpy(draw.uniform(0.5, 1, (count, 4)).astype(np.float32))
    instances = [_instance(n, logits, height, width) for n, logits in enumerate(teacher)]
    return Scene(image, teacher, instances, torch.from_numpy(answers), scores)


def street_scene() -> Scene:
    """30 instances at 1024 x 2048, of sizes as in street scenes: median 0.25 %, mean 0.6 %."""
    return made_scene(1024, 2048, 30, 0.0025, 1.4, 0)


def coco_scene() -> Scene:
    """20 instances at 480 x 640, of sizes as in COCO: median 0.5 % of the image, mean 2.2 %."""
    return made_scene(480, 640, 20, 0.005, 1.8, 0)


@dataclass(frozen=True, slots=True)
class _Blob:
    centre: tuple[float, float]  # y, x in pixels
    radii: tuple[float, float]  # along y and x in pixels
    waves: np.ndarray  # (K, 2), amplitude and phase of the outline's harmonics

    def inside(self, y: np.ndarray, x: np.ndarray, scale: float) -> np.ndarray:
        """How many pixels points lie within the outline: float64, negative outside."""
        dy, dx = (y - self.centre[0]) / self.radii[0], (x - self.centre[1]) / self.radii[1]
        angle, reached = np.arctan2(dy, dx), np.hypot(dy, dx)
        outline = np.ones_like(angle)
        for order, (amplitude, phase) in enumerate(self.waves, 2):
            outline += amplitude * np.cos(order * angle + phase)
        return (scale * outline - reached) * min(self.radii)


@dataclass(frozen=True, slots=True)
class _Shape:
    blobs: list[_Blob]
    height: int
    width: int

    @classmethod
    def drawn(
        cls,
        draw: np.random.Generator,
        area: float,
        height: int,
        width: int,
        in_two: bool,
        speck: bool,
    ) -> _Shape:
        radius = (area / np.pi) ** 0.5
        tall = float(np.exp(draw.normal() * 0.4))
        radii = (min(radius * tall, height / 2), min(radius / tall, width / 2))
        waves = np.stack([draw.normal(size=5) * 0.08, draw.uniform(0, 2 * np.pi, 5)], 1)
        y, x = (
            draw.uniform(min(r, s / 2), max(s - r, s / 2))
            for r, s in zip(radii, (height, width), strict=True)
        )
        blobs = [_Blob((y, x), radii, waves)]
        if in_two:
            blobs.append(_Blob((y, x + 1.7 * radii[1]), (0.7 * radii[0], 0.4 * radii[1]), waves))
        if speck:
            at = (draw.uniform(0, height), draw.uniform(0, width))
            blobs.append(_Blob(at, (1.5 * height / CELLS, 1.5 * width / CELLS), waves))
        return cls(blobs, height, width)

    def logits(self, shape: tuple[int, ...], scale: float, draw: np.random.Generator) -> np.ndarray:
        """float64 of a shape in cells, above 0 about inside."""
        rows, columns = shape
        cell = (self.height / rows, self.width / columns)
        y = (np.arange(rows)[:, None] + 0.5) * cell[0]
        x = (np.arange(columns)[None] + 0.5) * cell[1]
        inside = np.max([blob.inside(y, x, scale) for blob in self.blobs], 0) / min(cell)
        ripples = gaussian_filter(draw.normal(size=shape), 4) * 6
        return 12 * np.tanh(inside / 3) + np.clip(ripples, -2, 2)


def _instance(number: int, logits: np.ndarray, height: int, width: int) -> TeacherInstance:
    data, box = encode_soft_mask(expit(logits))
    crop = decode_soft_mask(data, box)
    pixels = soft_mask_to_pixels(crop, box, STRIDE, height, width) > 0.5
    rle = encode_crop(pixels, 0, 0, height, width)
    bbox, area = bbox_area(rle, height, width)
    return TeacherInstance(
        instance_id=number,
        category_id=1,
        score=0.9,
        bbox=bbox,
        area=area,
        points=np.zeros((0, 2), np.float32),
        soft_mask=crop,
        soft_mask_box=box,
        stride=STRIDE,
        mask_rle=rle,
    )
