"""The true or pseudo-labelled instances of a batch, numbered through its images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate

import torch
from mmengine.structures import InstanceData
from torch import Tensor

DOUBTFUL = "doubtful"


@dataclass(frozen=True, slots=True)
class BatchTruth:
    """T instances of B images.

    Attributes:
        labels: int64 (T,).
        masks: float32 (T, H, W).
        quality: float32 (T,), 1 where an image's labels have none; None where no image's have.
        class_probs: Each image's distributions, float (G, K), or None.
        doubtful: Each image's doubtful pixels, bool (H, W), or None.
        counts: Instances of each image.
    """

    labels: Tensor
    masks: Tensor
    quality: Tensor | None
    class_probs: tuple[Tensor | None, ...]
    doubtful: tuple[Tensor | None, ...]
    counts: tuple[int, ...]

    @classmethod
    def of(cls, instances: Sequence[InstanceData]) -> BatchTruth:
        """Put together what the head prepared of each image."""
        masks = torch.cat([one.masks for one in instances])
        quality = None
        if any("quality" in one for one in instances):
            parts = [one.get("quality", masks.new_ones(len(one.labels))) for one in instances]
            quality = torch.cat(parts).to(masks.dtype)
        return cls(
            torch.cat([one.labels for one in instances]),
            masks,
            quality,
            tuple(one.get("class_probs") for one in instances),
            tuple(one.metainfo.get(DOUBTFUL) for one in instances),
            tuple(len(one.labels) for one in instances),
        )

    @property
    def firsts(self) -> list[int]:
        """The number of each image's first instance."""
        return list(accumulate(self.counts, initial=0))[:-1]

    def images(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Each image's labels (G,) and masks (G, H, W)."""
        counts = list(self.counts)
        return zip(self.labels.split(counts), self.masks.split(counts), strict=True)
