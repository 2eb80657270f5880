"""Several networks and several views of a picture, used as one network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from s4m_pipeline.config_views import View
from s4m_pipeline.data.image_set import Category, check_same_categories
from s4m_pipeline.models.labeller.merging import merged
from s4m_pipeline.models.labeller.sightings import Lattice, Sighting, sightings_of
from s4m_pipeline.models.predictor import InstancePredictions, Predictor
from s4m_pipeline.models.scaled_image import ScaledImage

Scale = tuple[int, int]


@dataclass(slots=True)
class ViewedImage:
    """A picture at all scales that networks are to see it at.

    Attributes:
        scaled: The picture by scale.
        original: Its height and width before.
    """

    scaled: dict[Scale, ScaledImage]
    original: tuple[int, int]

    @property
    def nbytes(self) -> int:
        """Bytes of all of it, which may be more than those of the picture as it was."""
        return sum(image.tensor.nbytes for image in self.scaled.values())

    def at(self, scale: Scale, flip: bool) -> ScaledImage:
        """The picture at one of the scales, left and right changed where asked."""
        image = self.scaled[scale]
        return replace(image, tensor=image.tensor.flip(-1)) if flip else image


class Labeller:
    """Several networks and several views of a picture, with `Predictor`'s methods for labels.

    The networks look at a batch one after the other, and each at one view after the other. Of what
    they find in a view only masks cropped to their instances stay, so that the whole maps of one
    view are in memory at a time.

    Args:
        teachers: The networks; the others' masks are brought to the first one's cells.
        views: What each of them looks at, the picture as it is first.

    Attributes:
        categories: The classes, which all networks have.
        device: Where the networks are.
        passes: How often a network looks at a picture.
    """

    def __init__(self, teachers: Sequence[Predictor], views: Sequence[View]) -> None:
        self._teachers, self._views = tuple(teachers), tuple(views)
        self.categories: list[dict[str, Any]] = teachers[0].categories
        self.device: torch.device = teachers[0].device
        self.passes = len(teachers) * len(views)
        # the same classes may stand in another order
        ids = [_ids(teacher) for teacher in teachers]
        self._orders = [[own.index(key) for key in ids[0]] for own in ids]

    @property
    def warnings(self) -> list[str]:
        """Messages about how the networks run."""
        return sorted({text for teacher in self._teachers for text in teacher.warnings})

    def scaled(self, image: np.ndarray) -> ViewedImage:
        """Bring an image to all scales that `predict` needs; any thread may do this ahead of it.

        Args:
            image: uint8 (H, W, 3) RGB.
        """
        viewed = ViewedImage({}, image.shape[:2])
        for teacher in self._teachers:
            for view in self._views:
                scale = teacher.scale_times(view.scale)
                if scale not in viewed.scaled:
                    viewed.scaled[scale] = teacher.scaled(image, view.scale)
        return viewed

    def predict(
        self, images: Sequence[ViewedImage], min_score: float = 0.0
    ) -> list[InstancePredictions]:
        """Find instances in images, in all views and with all networks.

        Args:
            images: What `scaled` made of them.
            min_score: What no view sees with this score, and what has no such score in the mean of
                all views, is left out.
        """
        lattices: list[Lattice] = []
        found: list[list[Sighting]] = [[] for _ in images]
        looks = [
            (*own, view)
            for own in zip(self._teachers, self._orders, strict=True)
            for view in self._views
        ]
        for number, (teacher, order, view) in enumerate(looks):
            scale = teacher.scale_times(view.scale)
            shown = [image.at(scale, view.flip) for image in images]
            predictions = teacher.predict(shown, min_score)
            own = [Lattice.of(p, i.size) for p, i in zip(predictions, shown, strict=True)]
            lattices = lattices or own
            for place, one in enumerate(predictions):
                one.class_probs = one.class_probs[:, order]
                found[place] += sightings_of(one, number, view.flip, own[place], lattices[place])
        classes = len(self.categories)
        return [
            merged(sightings, self.passes, lattice, classes, min_score)
            for sightings, lattice in zip(found, lattices, strict=True)
        ]


def _ids(teacher: Predictor) -> list[int]:
    return [int(category["id"]) for category in teacher.categories]


def _classes(teacher: Predictor) -> list[Category]:
    return [Category(int(one["id"]), str(one["name"])) for one in teacher.categories]


def open_labeller(
    checkpoints: Sequence[Path],
    views: Sequence[View],
    device: str,
    own_models: Sequence[str] = (),
) -> Predictor | Labeller:
    """Open the networks that label; a single one that looks at the picture as it is stays itself.

    Args:
        checkpoints: Their files.
        views: What each of them looks at.
        device: "cpu", "cuda", "cuda:N" or "auto".
        own_models: The model configs that the run's own file names.

    Raises:
        UsageError: A file is missing, no checkpoint, or of other classes than the first one.
        ArtifactError: A checkpoint is damaged or not to be trusted.
    """
    teachers = [Predictor(path, device, own_models=own_models) for path in checkpoints]
    for path, teacher in zip(checkpoints[1:], teachers[1:], strict=True):
        first, own = (_classes(one) for one in (teachers[0], teacher))
        check_same_categories(own, first, str(path), str(checkpoints[0]))
    if len(teachers) == 1 and tuple(views) == (View(),):
        return teachers[0]
    return Labeller(teachers, views)
