"""Objects that a model cannot find in labelled images: too many in one of them, or too small. No
torch.

A Mask2Former with fewer queries than an image has objects matches every query in every step. All
its scores are 1 then, and no training mends it. Objects of a few cells leave its masks empty.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from s4m_pipeline.configs import model_config_path
from s4m_pipeline.configs.limits import ModelLimits, limits_of
from s4m_pipeline.data.check.faults import Fault
from s4m_pipeline.data.image_set import ImageSet, Instance

FEW_CELLS = 3
"""An object has to cover the area of this many cells by as many."""
MOST = 0.5
"""The share of small instances above which a training is warned."""


@dataclass(frozen=True, slots=True)
class Misfit:
    """Something in labelled images that a model cannot find.

    Attributes:
        kind: A key of ``faults.MODEL_NOTES``.
        count: Images or instances.
        what: The figures, in words.
        advice: What to set.
    """

    kind: str
    count: int
    what: str
    advice: str

    @property
    def message(self) -> str:
        """Two lines for a warning."""
        return f"{self.what}.\n{self.advice}"

    def as_fault(self) -> Fault:
        """As a note of ``data check``."""
        return Fault(self.kind, self.count, (self.what, self.advice))


def misfits(images: ImageSet, model: str | Path, small: float = MOST) -> list[Misfit]:
    """What a model cannot find.

    Args:
        images: Images with their labels.
        model: A name in ``configs/models``, or a path to an MMEngine config.
        small: The share of instances that are too small above which that is told.

    Raises:
        UsageError: There is no such config.
    """
    limits = limits_of(model)
    found = (_too_many(images, model, limits), _too_small(images, limits, small))
    return [misfit for misfit in found if misfit is not None]


def _objects(images: ImageSet) -> Iterator[list[Instance]]:
    """The instances of each image that are no crowds."""
    for labels in images.instances.values():
        yield [instance for instance in labels if not instance.iscrowd]


def _too_many(images: ImageSet, model: str | Path, limits: ModelLimits) -> Misfit | None:
    counts = [len(labels) for labels in _objects(images)]
    most = max(counts, default=0)
    if limits.queries is None or most <= limits.queries:
        return None
    above = sum(count > limits.queries for count in counts)
    wanted = math.ceil(most / 10) * 10
    return Misfit(
        "more-than-queries",
        above,
        f"up to {most} instances in an image, the model finds at most {limits.queries} "
        f"(num_queries); {above} of {len(images.images)} images have more",
        f"Take a model config with _base_ = ['{model_config_path(model)}'], start = None and "
        f"model = dict(panoptic_head=dict(num_queries={wanted}), "
        f"test_cfg=dict(max_per_image={wanted})), or cut the images into tiles",
    )


def _too_small(images: ImageSet, limits: ModelLimits, share: float) -> Misfit | None:
    small, all_instances, cells = 0, 0, []
    for record in images.images:
        labels = images.instances.get(record.id, [])
        cell = limits.cell(record.height, record.width)
        if cell is None:
            return None
        areas = [instance.area for instance in labels if not instance.iscrowd]
        few = sum(area < (FEW_CELLS * cell) ** 2 for area in areas)
        small, all_instances = small + few, all_instances + len(areas)
        cells += [cell] * few
    if small <= share * all_instances or limits.scale is None:
        return None
    typical = sorted(cells)[len(cells) // 2]
    return Misfit(
        "small-instances",
        small,
        f"{small} of {all_instances} instances are smaller than {FEW_CELLS} x {FEW_CELLS} cells of "
        f"the model's masks, whose cell is {typical:.3g} px of an image at the training's scale "
        f"({limits.scale[0]} x {limits.scale[1]})",
        "Masks of so few cells stay empty or coarse: take a model config with a larger scale in "
        "train_pipeline and test_scale, or cut the images into tiles",
    )
