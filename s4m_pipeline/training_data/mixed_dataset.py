"""Labelled and unlabelled images in one dataset, batch by batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mmdet.registry import DATASETS
from torch.utils.data import Dataset

from s4m_pipeline.data.image_set import check_same_categories
from s4m_pipeline.errors import UsageError
from s4m_pipeline.training_data.batches import trading_pairs
from s4m_pipeline.training_data.instance_dataset import as_categories
from s4m_pipeline.training_data.paste import PasteInstances


@DATASETS.register_module()
class MixedDataset(Dataset[dict[str, Any]]):
    """A labelled and an unlabelled dataset one after the other, for ``MixedSampler``.

    A ``DataLoader`` asks it for whole batches. Where the unlabelled pipeline has a
    ``PasteInstances``, some of a batch's unlabelled images trade instances there, each as it is
    after its own geometry. Who trades with whom follows from the seed and the batch's draws, so
    that it depends neither on workers nor on a resume.

    Args:
        labelled: The labelled dataset or its config.
        unlabelled: The unlabelled dataset or its config; of the same classes.

    Raises:
        UsageError: Their categories differ, or come in another order: a label is a place in it.
    """

    def __init__(self, labelled: Any, unlabelled: Any) -> None:
        self.labelled = DATASETS.build(labelled) if isinstance(labelled, dict) else labelled
        self.unlabelled = DATASETS.build(unlabelled) if isinstance(unlabelled, dict) else unlabelled
        first, second = (
            as_categories(side.metainfo["categories"]) for side in (self.labelled, self.unlabelled)
        )
        check_same_categories(first, second, "the labelled images", "the unlabelled images")
        if first != second:
            raise UsageError(
                "the labelled and the unlabelled images have the same categories in another order; "
                "give both datasets the same `categories`"
            )

    @property
    def metainfo(self) -> dict[str, Any]:
        """The labelled dataset's classes and categories."""
        return dict(self.labelled.metainfo)

    @property
    def labelled_count(self) -> int:
        """Number of labelled images; they come first."""
        return len(self.labelled)

    def __len__(self) -> int:
        """Number of images of both."""
        return len(self.labelled) + len(self.unlabelled)

    def __getitem__(self, item: int | tuple[int, int]) -> dict[str, Any]:
        """Take an item, by index or by ``(index, draw)``."""
        index, draw = item if isinstance(item, (tuple, list)) else (item, None)
        side = self.labelled if index < len(self.labelled) else self.unlabelled
        index = index if side is self.labelled else index - len(self.labelled)
        return side[index if draw is None else (index, draw)]

    def __getitems__(self, items: Sequence[int | tuple[int, int]]) -> list[dict[str, Any]]:
        """Take a batch; its unlabelled images with a draw may trade instances."""
        trading: dict[int, tuple[int, int]] = {}
        if self._pastes():
            for place, item in enumerate(items):
                if isinstance(item, (tuple, list)) and item[0] >= len(self.labelled):
                    trading[place] = (item[0] - len(self.labelled), item[1])
        traded = dict(zip(trading, self._trade(list(trading.values())), strict=True))
        return [traded.get(place) or self[item] for place, item in enumerate(items)]

    def _pastes(self) -> bool:
        return any(isinstance(step, PasteInstances) for step in self.unlabelled.pipeline.transforms)

    def _trade(self, items: Sequence[tuple[int, int]]) -> list[dict[str, Any]]:
        """Make a batch's unlabelled items, given as (place among the unlabelled, draw).

        First all go through the pipeline as far as the paste, then each through the rest.
        """
        if not items:
            return []
        side = self.unlabelled
        begun = [side.prepare_until(index, draw, PasteInstances) for index, draw in items]
        partner = dict(trading_pairs(len(items), side.seed, items[0][1]))
        partner |= {second: first for first, second in partner.items()}
        batch = []
        for place, (index, draw) in enumerate(items):
            results = begun[place]
            if results is not None:
                other = begun[partner[place]] if place in partner else None
                mixed = results if other is None else {**results, "mix_results": [other]}
                results = side.finish_from(mixed, draw, PasteInstances)
            # an image that a transform refuses is replaced, as it is without a partner
            batch.append(side[(index, draw)] if results is None else results)
        return batch

    def full_init(self) -> None:
        """Load both lists now, before workers are started."""
        self.labelled.full_init()
        self.unlabelled.full_init()
