"""What every promptable segmenter is: the values it takes and gives, and its interface."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Frame:
    """How an image, or a view of it, lies in the model's square input.

    Attributes:
        height: Height of the original image in pixels.
        width: Width of the original image in pixels.
        valid_height: Rows of the model's input that the view covers; the rest is padding.
        valid_width: Columns of the model's input that the view covers.
        x: The view's first column in the image.
        y: The view's first row in the image.
        view_height: Height of the view in pixels; 0 stands for the image's.
        view_width: Width of the view in pixels; 0 stands for the image's.
    """

    height: int
    width: int
    valid_height: int
    valid_width: int
    x: int = 0
    y: int = 0
    view_height: int = 0
    view_width: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "view_height", self.view_height or self.height)
        object.__setattr__(self, "view_width", self.view_width or self.width)

    def placed(self, x: int, y: int, height: int, width: int) -> Frame:
        """The frame of a view that was cut out and encoded like an image, put where it belongs.

        Args:
            x: The view's first column in the image.
            y: The view's first row in the image.
            height: Height of the image in pixels.
            width: Width of the image in pixels.
        """
        valid = self.valid_height, self.valid_width
        return Frame(height, width, *valid, x, y, self.height, self.width)

    def to_model(self, points: np.ndarray) -> np.ndarray:
        """Carry coordinates from the original image to the model's input.

        Args:
            points: float (..., 2), x and y in original pixels.

        Returns:
            float32 (..., 2), x and y in model pixels; outside the input for points outside the
            view.
        """
        origin = np.array([self.x, self.y], np.float32)
        size = np.array([self.view_width, self.view_height], np.float32)
        valid = np.array([self.valid_width, self.valid_height], np.float32)
        return (np.asarray(points, np.float32) - origin) / size * valid


@dataclass(slots=True)
class Embeddings:
    """What the image encoder made of B images, on the segmenter's device.

    Attributes:
        image: (B, C, h, w) image embeddings.
        high_res: () or finer feature maps for the mask decoder, finest first:
            (B, C/8, 4h, 4w) and (B, C/4, 2h, 2w).
        frames: How each of the B images lies in the model's input.
    """

    image: Tensor
    high_res: tuple[Tensor, ...]
    frames: tuple[Frame, ...]


@dataclass(slots=True)
class Prompts:
    """Prompts for the N instances of one image, in original image pixels.

    Attributes:
        points: float32 (N, P, 2), x and y; P may be 0.
        labels: int32 (N, P), 1 positive, 0 negative, -1 padding.
        boxes: float32 (N, 4), x0, y0, x1, y1, or None.
        masks: float32 (N, 1, 4h, 4w) mask logits in the model's frame, or None.
    """

    points: np.ndarray
    labels: np.ndarray
    boxes: np.ndarray | None = None
    masks: Tensor | None = None

    def __len__(self) -> int:
        """The number of instances."""
        return len(self.points)


@dataclass(slots=True)
class Candidates:
    """What the mask decoder answered for the N instances of one image.

    Attributes:
        parts: float32 (N_i, C, 4h, 4w) mask logits in the model's frame, the N_i adding up to N,
            as the decoder's passes left them; C is 3, or 1 for the single-mask output. N and C
            are never squeezed.
        ious: float32 (N, C), the decoder's own estimate of each mask's IoU.
    """

    parts: tuple[Tensor, ...]
    ious: Tensor

    @property
    def logits(self) -> Tensor:
        """float32 (N, C, 4h, 4w), all parts as one; a copy where there are several."""
        return self.parts[0] if len(self.parts) == 1 else torch.cat(self.parts)

    def picked(self, picks: Tensor) -> Tensor:
        """One candidate of each instance, without a copy of the others.

        Args:
            picks: int64 (N,), which; on the logits' device.

        Returns:
            float32 (N, 1, 4h, 4w).
        """
        if self.ious.shape[1] == 1:
            return self.logits
        rows = torch.arange(len(picks), device=picks.device)
        taken, start = [], 0
        for part in self.parts:
            taken.append(part[rows[: len(part)], picks[start : start + len(part)], None])
            start += len(part)
        return taken[0] if len(taken) == 1 else torch.cat(taken)


class Segmenter(ABC):
    """A promptable segmenter.

    Attributes:
        name: The name that a run's file chooses it by.
        image_size: Side of its square input in model pixels.
        device: Where it runs.
        warnings: What to tell the user about how it runs: a faster way that was given up, smaller
            batches for lack of memory.
        most_points: The most points in a pass of structural maps, once more of them have run out
            of memory.
    """

    name: str
    image_size: int
    device: torch.device
    warnings: Sequence[str] = ()
    most_points: int | None = None
    proved: bool = True
    """Whether it is settled how it runs: False until a faster way has been compared with
    float32."""

    def warn(self, text: str) -> None:
        """Add a line to `warnings`."""
        self.warnings = [*self.warnings, text]

    def prove(self, images: Sequence[np.ndarray], batch: int) -> None:
        """Settle how it runs. Unless this is called first, `encode` does it on its first images.

        Workers that are given the same images come to the same result.

        Args:
            images: uint8 (H, W, 3) RGB arrays of any sizes, at least one.
            batch: How many images `encode` will get at a time.
        """
        self.proved = True

    def frame(self, height: int, width: int) -> Frame:
        """How an image lies in the model's input: stretched to the square, unless overridden.

        Args:
            height: Height of the image in pixels.
            width: Width of the image in pixels.
        """
        return Frame(height, width, self.image_size, self.image_size)

    @property
    def mask_cells(self) -> int:
        """Cells along each side of the mask logits: a quarter of the input's, as SAM has them."""
        return self.image_size // 4

    @abstractmethod
    def encode(self, images: Sequence[np.ndarray]) -> Embeddings:
        """Encode images.

        Args:
            images: uint8 (H, W, 3) RGB arrays of any sizes, at least one.

        Returns:
            Their embeddings, in the same order.
        """

    @abstractmethod
    def decode(
        self, embeddings: Embeddings, prompts: Sequence[Prompts], multimask: bool
    ) -> list[Candidates]:
        """Answer prompts, batched over images and instances.

        Args:
            embeddings: Of B images.
            prompts: B entries; prompts[i] belong to image i and may be empty.
            multimask: Three candidate masks for each prompt, or the single-mask output.

        Returns:
            B entries, the candidates of each image's instances.
        """

    @abstractmethod
    def structure_features(self, embeddings: Embeddings, index: int, points: np.ndarray) -> Tensor:
        """The two-way transformer's image side, for each point prompted alone.

        Args:
            embeddings: Of B images.
            index: Which of them.
            points: float (P, 2), x and y in original pixels.

        Returns:
            float32 (P, C, h, w).
        """
