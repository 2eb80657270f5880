"""Samplers whose sequence is a function of seed and position, so that a resume finds its place."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from mmdet.registry import DATA_SAMPLERS
from mmengine.dist import get_dist_info
from torch.utils.data import Sampler

from s4m_pipeline.artifacts.seeds import rng
from s4m_pipeline.training_data.repeats import RepeatedOrder

Item = tuple[int, int]
"""Index into the dataset, and the draw's number, which seeds the item's augmentation."""


class _Order:
    """An endless order over ``count`` items: pass after pass, each shuffled by seed and pass."""

    def __init__(self, count: int, seed: int, name: str, shuffle: bool = True) -> None:
        self._count, self._seed, self._name, self._shuffle = count, seed, name, shuffle
        self._pass = -1
        self._permutation = np.arange(count)

    def at(self, position: int) -> int:
        """The item at a position counted from 0."""
        number, place = divmod(position, self._count)
        if self._shuffle and number != self._pass:
            generator = rng(self._seed, "order", self._name, number)
            self._permutation, self._pass = generator.permutation(self._count), number
        return int(self._permutation[place])


@DATA_SAMPLERS.register_module()
class PositionSampler(Sampler[Item]):
    """Endless shuffled passes over one dataset.

    Args:
        dataset: Anything with a length.
        seed: Fixes the order.
        start: How many items this process has taken already: on a resume, iteration times batch
            size. May be set before an iteration begins.
        batch_size: Items a process takes at a time; matters with several processes only.
        shuffle: False takes the items in order.
    """

    def __init__(
        self,
        dataset: Any,
        seed: int = 0,
        start: int = 0,
        batch_size: int = 1,
        shuffle: bool = True,
    ) -> None:
        self.size = len(dataset)
        if self.size == 0:
            raise ValueError("a sampler needs a dataset that is not empty")
        self.seed, self.start, self.batch_size, self.shuffle = seed or 0, start, batch_size, shuffle
        self.rank, self.world_size = get_dist_info()

    def __iter__(self) -> Iterator[Item]:
        """Yield (index, draw) from ``start`` on, without end."""
        order = _Order(self.size, self.seed, "all", self.shuffle)
        position = self.start
        while True:
            draw = _global_position(position, self.batch_size, self.rank, self.world_size)
            yield order.at(draw), draw
            position += 1

    def __len__(self) -> int:
        """Items of one pass."""
        return self.size

    def set_epoch(self, epoch: int) -> None:
        """Do nothing: the order follows from the position alone."""


@DATA_SAMPLERS.register_module()
class MixedSampler(Sampler[Item]):
    """Batches with a fixed number of labelled and of unlabelled images, without end.

    Meant for a ``DataLoader`` with the same ``batch_size``. Each side has its own endless
    shuffled order; in each batch the labelled images come first. Labelled images with rare classes
    may come more often.

    Args:
        dataset: A ``MixedDataset``, or anything with ``labelled_count`` and a length, whose
            first ``labelled_count`` items are labelled and the rest unlabelled.
        batch_size: Images a batch.
        unlabelled: How many of them are unlabelled; 1 to batch_size - 1.
        seed: Fixes the order.
        start: How many items this process has taken already: iteration times batch size.
        factors: How often each labelled image comes in a pass (`repeats.repeat_factors`); None
            for once each.
    """

    def __init__(
        self,
        dataset: Any,
        batch_size: int,
        unlabelled: int,
        seed: int = 0,
        start: int = 0,
        factors: np.ndarray | None = None,
    ) -> None:
        self.labelled_count = int(dataset.labelled_count)
        self.unlabelled_count = len(dataset) - self.labelled_count
        if min(self.labelled_count, self.unlabelled_count) < 1:
            raise ValueError("a mixed batch needs labelled and unlabelled images")
        if not 0 < unlabelled < batch_size:
            raise ValueError(f"{unlabelled} unlabelled images in a batch of {batch_size}")
        if factors is not None and len(factors) != self.labelled_count:
            raise ValueError(f"{len(factors)} factors for {self.labelled_count} labelled images")
        self.batch_size, self.unlabelled, self.factors = batch_size, unlabelled, factors
        self.seed, self.start = seed or 0, start
        self.rank, self.world_size = get_dist_info()

    def __iter__(self) -> Iterator[Item]:
        """Yield (index, draw) from ``start`` on, without end."""
        labelled = self._labelled_order()
        unlabelled = _Order(self.unlabelled_count, self.seed, "unlabelled")
        first = self.batch_size - self.unlabelled
        position = self.start
        while True:
            draw = _global_position(position, self.batch_size, self.rank, self.world_size)
            batch, slot = divmod(draw, self.batch_size)
            if slot < first:
                yield labelled.at(batch * first + slot), draw
            else:
                place = unlabelled.at(batch * self.unlabelled + slot - first)
                yield self.labelled_count + place, draw
            position += 1

    def _labelled_order(self) -> _Order | RepeatedOrder:
        if self.factors is None:
            return _Order(self.labelled_count, self.seed, "labelled")
        return RepeatedOrder(self.factors, self.seed, "labelled")

    def __len__(self) -> int:
        """Images of one pass over both sides."""
        return self.labelled_count + self.unlabelled_count

    def set_epoch(self, epoch: int) -> None:
        """Do nothing: the order follows from the position alone."""


def _global_position(position: int, batch_size: int, rank: int, world_size: int) -> int:
    """Deal whole batches out to the processes in turn."""
    batch, slot = divmod(position, batch_size)
    return (batch * world_size + rank) * batch_size + slot
