"""A segmenter in one file, as somebody would add it: its class and its spec."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from s4m_pipeline.errors import UsageError
from s4m_pipeline.segmenter.base import Embeddings
from s4m_pipeline.segmenter.spec import SegmenterChoice, SegmenterSpec
from tests.segmenter.fakes import PromptedSegmenter


class Discs(PromptedSegmenter):
    """Answers every prompt with a disc."""

    name = "discs"
    made: ClassVar[list[SegmenterChoice]] = []
    encoded: ClassVar[int] = 0

    def encode(self, images: Sequence[np.ndarray]) -> Embeddings:
        Discs.encoded += len(images)
        return super().encode(images)

    def structure_features(self, embeddings: Embeddings, index: int, points: np.ndarray) -> Tensor:
        generator = torch.Generator().manual_seed(len(points))
        return torch.randn(len(points), 16, 8, 8, generator=generator)


def _check(choice: SegmenterChoice) -> None:
    if choice.image_size not in (None, 128):
        raise UsageError(f"segmenter discs takes 128 px only, not {choice.image_size}")


def build(choice: SegmenterChoice, device: str) -> Discs:
    Discs.made.append(choice)
    return Discs()


SPEC = SegmenterSpec(
    {"discs": "a disc for every prompt"}, _check, f"{__name__}:build", Path(__file__)
)
