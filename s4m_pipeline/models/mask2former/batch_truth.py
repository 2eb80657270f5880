"""The true or pseudo-labelled instances of a batch, numbered through its images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor

from s4m_pipeline.devices.transfers import bytes_to_device
from s4m_pipeline.models.mask2former.doubt import doubtful_pixels
from s4m_pipeline.training_data.packed_masks import PackedMasks, unpacked


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
    def of(
        cls,
        samples: Sequence[Any],
        quality: bool = False,
        class_probs: bool = False,
        doubt: bool = False,
    ) -> BatchTruth:
        """Put a batch together, its masks sent to the device of the labels in one copy.

        Args:
            samples: Data samples of at least one image; labels are on the device, masks on the
                host, padded to one size.
            quality: Whether to take the labels' quality.
            class_probs: Whether to take their class distributions.
            doubt: Whether to look for doubtful pixels.
        """
        found = [sample.gt_instances for sample in samples]
        labels = torch.cat([one.labels for one in found])
        masks = _sent([one.masks for one in found], labels.device)
        weights = None
        if quality and any("quality" in one for one in found):
            ones = torch.ones_like(labels, dtype=torch.float32).split([len(one) for one in found])
            parts = [one.get("quality", 1) * own for one, own in zip(found, ones, strict=True)]
            weights = torch.cat(parts)
        return cls(
            labels,
            masks,
            weights,
            tuple(one.get("class_probs") if class_probs else None for one in found),
            tuple(doubtful_pixels(sample) if doubt else None for sample in samples),
            tuple(len(one.labels) for one in found),
        )

    @property
    def firsts(self) -> list[int]:
        """The number of each image's first instance."""
        return list(accumulate(self.counts, initial=0))[:-1]

    def images(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Each image's labels (G,) and masks (G, H, W)."""
        counts = list(self.counts)
        return zip(self.labels.split(counts), self.masks.split(counts), strict=True)

    def pairs(self, queries: int) -> int:
        """How many pairs a matching with so many queries an image has."""
        return sum(min(count, queries) for count in self.counts)


def _sent(found: Sequence[Any], device: torch.device) -> Tensor:
    """Each image's masks, one after another: float32 (T, H, W) on the device.

    Args:
        found: Bitmaps of one size. Where all are bits still, they become pixels on the device.
        device: Where they go.
    """
    if all(isinstance(one, PackedMasks) and not one.decoded for one in found):
        bits = bytes_to_device([one.bits() for one in found], device)
        return unpacked(bits, found[0].width).float()
    return bytes_to_device([one.to_ndarray() for one in found], device).ne(0).float()
