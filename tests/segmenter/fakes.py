"""What refinement's tests share: a segmenter that answers as told, and made-up instances."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from pycocotools import mask as mask_api
from scipy.ndimage import map_coordinates
from scipy.special import expit
from torch import Tensor

from s4m_pipeline.refinement.instances import TeacherInstance
from s4m_pipeline.refinement.rle import bbox_area
from s4m_pipeline.refinement.soft_masks import (
    decode_soft_mask,
    draw_prompt_points,
    encode_soft_mask,
    soft_mask_to_pixels,
)
from s4m_pipeline.segmenter.base import Candidates, Embeddings, Frame, Prompts, Segmenter

STRIDE = 4.0


class ToldSegmenter(Segmenter):
    """Answers every prompt with logits that were given to it, and remembers the prompts.

    Args:
        logits: One float32 (N, 3, 32, 32) an image; the single-mask output is the first.
        ious: One float32 (N, 3) an image.
    """

    name = "told"
    image_size = 128
    device = torch.device("cpu")

    def __init__(self, logits: list[Tensor], ious: list[Tensor]) -> None:
        self.logits = logits
        self.ious = ious
        self.prompts: list[Prompts] = []

    def encode(self, images: Sequence[np.ndarray]) -> Embeddings:
        frames = tuple(square_frame(*image.shape[:2]) for image in images)
        return Embeddings(torch.zeros(len(images), 8, 8, 8), (), frames)

    def decode(
        self, embeddings: Embeddings, prompts: Sequence[Prompts], multimask: bool
    ) -> list[Candidates]:
        self.prompts = list(prompts)
        count = 3 if multimask else 1
        return [
            Candidates((logits[:, :count],), ious[:, :count])
            for logits, ious in zip(self.logits, self.ious, strict=True)
        ]

    def structure_features(self, embeddings: Embeddings, index: int, points: np.ndarray) -> Tensor:
        generator = torch.Generator().manual_seed(index)
        base = torch.randn(1, 16, 8, 8, generator=generator)
        shift = torch.from_numpy(points).float().sum(1).view(-1, 1, 1, 1) / 100
        return base + shift.sin() * torch.randn(1, 16, 8, 8, generator=generator)


def encode_mask(mask: np.ndarray) -> bytes:
    """COCO's compressed counts of a bool mask (H, W), by pycocotools."""
    return bytes(mask_api.encode(np.asfortranarray(mask, np.uint8))["counts"])


def decode_mask(rle: bytes, height: int, width: int) -> np.ndarray:
    """The bool (height, width) mask of COCO's compressed counts, by pycocotools."""
    return mask_api.decode({"size": [height, width], "counts": rle}).astype(bool)


def square_frame(height: int, width: int, size: int = 128) -> Frame:
    """As SAM 2 puts an image into its input: stretched to the square."""
    return Frame(height, width, size, size)


def padded_frame(height: int, width: int, size: int = 128) -> Frame:
    """As SAM puts an image into its input: the long side fits, the rest is padding."""
    scale = size / max(height, width)
    h, w = int(height * scale + 0.5), int(width * scale + 0.5)
    return Frame(height, width, h, w)


def blob_logits(
    shape: tuple[int, int], centre: tuple[float, float], radius: float, slope: float = 1.0
) -> np.ndarray:
    """Logits of a disc: float32, above 0 within `radius` cells of the centre (y, x)."""
    y, x = np.mgrid[: shape[0], : shape[1]]
    distance = np.hypot(y - centre[0], x - centre[1])
    return (slope * (radius - distance)).astype(np.float32)


def teacher_instance(
    height: int, width: int, centre: tuple[float, float], radius: float, number: int = 0
) -> TeacherInstance:
    """An instance with a disc as soft mask; centre (y, x) and radius in cells of 4 px."""
    shape = (-(-height // 4), -(-width // 4))
    logits = blob_logits(shape, centre, radius)
    data, box = encode_soft_mask(expit(logits))
    crop = decode_soft_mask(data, box)
    rle = encode_mask(soft_mask_to_pixels(crop, box, STRIDE, height, width) > 0.5)
    rng = np.random.default_rng(number)
    return TeacherInstance(
        instance_id=number,
        category_id=1,
        score=0.9,
        bbox=bbox_area(rle, height, width)[0],
        area=bbox_area(rle, height, width)[1],
        points=draw_prompt_points(logits, 3, STRIDE, height, width, rng),
        soft_mask=crop,
        soft_mask_box=box,
        stride=STRIDE,
        mask_rle=rle,
    )


def whole_logits(logits: np.ndarray, frame: Frame, image_size: int) -> np.ndarray:
    """Logits at every pixel of the image, the plain way: torch's interpolate and grid_sample."""
    height, width = frame.height, frame.width
    if (frame.valid_height, frame.valid_width) == (image_size, image_size):
        return F.interpolate(
            torch.from_numpy(logits)[None, None],
            (height, width),
            mode="bilinear",
            align_corners=False,
        )[0, 0].numpy()
    y = (torch.arange(height) + 0.5) / height * frame.valid_height / image_size * 2 - 1
    x = (torch.arange(width) + 0.5) / width * frame.valid_width / image_size * 2 - 1
    grid = torch.stack(torch.meshgrid(x, y, indexing="xy"), -1)[None]
    source = torch.from_numpy(logits)[None, None]
    return F.grid_sample(source, grid, padding_mode="border", align_corners=False)[0, 0].numpy()


class PromptedSegmenter(Segmenter):
    """Answers with logits that depend on every part of a prompt, instance by instance.

    `answer` gives one instance's answer, so that a test can ask for it alone.
    """

    name = "prompted"
    image_size = 128
    device = torch.device("cpu")

    def __init__(self) -> None:
        self.decodes = 0

    def encode(self, images: Sequence[np.ndarray]) -> Embeddings:
        frames = tuple(square_frame(*image.shape[:2]) for image in images)
        return Embeddings(torch.zeros(len(images), 8, 8, 8), (), frames)

    def answer(
        self,
        frame: Frame,
        points: np.ndarray,
        labels: np.ndarray,
        box: np.ndarray | None,
        mask: Tensor | None,
        multimask: bool,
    ) -> tuple[Tensor, Tensor]:
        """Logits (C, 32, 32) and scores (C,) of one prompt: points (P, 2), box (4,)."""
        seen = [frame.to_model(points[labels == 1])]
        if box is not None:
            seen.append(frame.to_model(box.reshape(2, 2)))
        x, y = np.concatenate(seen).mean(0) / 4
        count = 3 if multimask else 1
        discs = [blob_logits((32, 32), (y, x), 5 + 2 * n, 0.4) for n in range(count)]
        logits = torch.from_numpy(np.stack(discs)) + (0 if box is None else 0.3)
        for point in points[labels == 0]:
            px, py = frame.to_model(point) / 4
            logits = logits - torch.from_numpy(blob_logits((32, 32), (py, px), 6)).clamp(min=0)
        if mask is not None:
            logits = logits + 0.5 * mask
        return logits, logits.amax((1, 2)) / 10

    def decode(
        self, embeddings: Embeddings, prompts: Sequence[Prompts], multimask: bool
    ) -> list[Candidates]:
        self.decodes += 1
        count = 3 if multimask else 1
        out = []
        for frame, asked in zip(embeddings.frames, prompts, strict=True):
            found = [
                self.answer(
                    frame,
                    asked.points[n],
                    asked.labels[n],
                    None if asked.boxes is None else asked.boxes[n],
                    None if asked.masks is None else asked.masks[n, 0],
                    multimask,
                )
                for n in range(len(asked))
            ]
            logits = [pair[0] for pair in found] or [torch.zeros(count, 32, 32)]
            ious = [pair[1] for pair in found] or [torch.zeros(count)]
            keep = len(found)
            out.append(Candidates((torch.stack(logits)[:keep],), torch.stack(ious)[:keep]))
        return out

    def structure_features(self, embeddings: Embeddings, index: int, points: np.ndarray) -> Tensor:
        raise AssertionError("not asked for here")


def soft_probabilities(instance: TeacherInstance, height: int, width: int) -> np.ndarray:
    """The teacher's probability at every pixel, float64 (H, W), the plain way: scipy on the map."""
    stride = instance.stride
    grid = np.zeros((round(-(-height // stride)), round(-(-width // stride))))
    x, y, w, h = instance.soft_mask_box
    grid[y : y + h, x : x + w] = instance.soft_mask / 255
    rows, columns = np.mgrid[:height, :width]
    at = [(rows + 0.5) / stride - 0.5, (columns + 0.5) / stride - 0.5]
    return map_coordinates(grid, at, order=1, mode="nearest")
