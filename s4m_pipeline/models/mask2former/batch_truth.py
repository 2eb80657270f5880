"""The true or pseudo-labelled instances of a batch, numbered through its images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor

from s4m_pipeline.configs.losses import StudentLosses
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
    def of(cls, samples: Sequence[Any], losses: StudentLosses = StudentLosses()) -> BatchTruth:
        """Put a batch together, its masks sent to the device of the labels in one copy.

        Args:
            samples: Data samples of at least one image; labels are on the device, masks on the
                host, padded to one size.
            losses: They decide whether quality, class distributions and doubtful pixels are taken.
        """
        instances = [sample.gt_instances for sample in samples]
        labels = torch.cat([own.labels for own in instances])
        distils, ignores = losses.class_weight > 0, losses.ignore_regions
        return cls(
            labels,
            _sent([own.masks for own in instances], labels.device),
            _quality(instances, labels) if losses.quality_weight else None,
            tuple(own.get("class_probs") if distils else None for own in instances),
            tuple(doubtful_pixels(sample) if ignores else None for sample in samples),
            tuple(len(own.labels) for own in instances),
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


def _quality(instances: Sequence[Any], labels: Tensor) -> Tensor | None:
    """Quality of all labels, float32 (T,), 1 where an image has none; None where no image has."""
    if not any("quality" in own for own in instances):
        return None
    ones = torch.ones_like(labels, dtype=torch.float32).split([len(own) for own in instances])
    parts = [own.get("quality", 1) * one for own, one in zip(instances, ones, strict=True)]
    return torch.cat(parts)


def _sent(masks: Sequence[Any], device: torch.device) -> Tensor:
    """Each image's masks, one after another: float32 (T, H, W) on the device.

    Args:
        masks: Bitmaps of one size, one entry an image. While all of them are still packed, they
            become pixels on the device.
        device: Where they go.
    """
    if all(isinstance(own, PackedMasks) and not own.decoded for own in masks):
        bits = bytes_to_device([own.bits() for own in masks], device)
        return unpacked(bits, masks[0].width).float()
    return bytes_to_device([own.to_ndarray() for own in masks], device).ne(0).float()
