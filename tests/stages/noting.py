"""A segmenter that notes what it is asked for, and copies that note when they are waited for."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch import Tensor

from s4m_pipeline.segmenter import structure
from s4m_pipeline.segmenter.base import Embeddings
from tests.segmenter.fakes import ToldSegmenter

Event = tuple[str, int]


class NotingSegmenter(ToldSegmenter):
    """Notes "encode" and "maps" with the number of the image, which is its first value.

    Args:
        events: Where it notes them.
    """

    def __init__(self, events: list[Event]) -> None:
        super().__init__([], [])
        self.events = events

    def encode(self, images: Sequence[np.ndarray]) -> Embeddings:
        numbers = [int(image[0, 0, 0]) for image in images]
        self.events += [("encode", number) for number in numbers]
        embeddings = super().encode(images)
        embeddings.image += torch.tensor(numbers).view(-1, 1, 1, 1)
        return embeddings

    def structure_features(self, embeddings: Embeddings, index: int, points: np.ndarray) -> Tensor:
        self.events.append(("maps", int(embeddings.image[index, 0, 0, 0])))
        return super().structure_features(embeddings, index, points)


def note_copies(monkeypatch: pytest.MonkeyPatch) -> list[Event]:
    """A list that gets ("taken", N) where the host waits for the maps asked for as the Nth."""
    events: list[Event] = []

    class Copy(structure.HostCopy):
        asked = 0

        def __init__(self, tensor: Tensor) -> None:
            super().__init__(tensor)
            self.number = -1
            if tensor.dtype == torch.uint8:  # the others are the maps' ranges
                self.number, Copy.asked = Copy.asked, Copy.asked + 1

        def array(self) -> np.ndarray:
            if self.number >= 0:
                events.append(("taken", self.number))
            return super().array()

    monkeypatch.setattr(structure, "HostCopy", Copy)
    return events
