"""A batch of images on its way through the segmenter."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from s4m_pipeline.refinement.ask import Asked, ask
from s4m_pipeline.refinement.instances import RefinedMask
from s4m_pipeline.refinement.view_plan import (
    EncodedViews,
    ViewPlace,
    ViewPlan,
    encode_views,
    plan_batch,
    whole,
)
from s4m_pipeline.segmenter.base import Segmenter
from s4m_pipeline.stages.refine.labels import ImagePredictions, decided_rows, likely_masks
from s4m_pipeline.stages.refine.refine_task import RefineTask
from s4m_pipeline.stages.refine.rows import Row
from s4m_pipeline.stages.structure_rows import BegunRow, begin_row
from s4m_pipeline.stages.structure_settings import TargetSettings


@dataclass(frozen=True, slots=True)
class DecidedBatch:
    """Images whose masks are made; a GPU may still be making their structural maps.

    Attributes:
        rows: The rows of each of B images by table, without ``structure``.
        maps: Their rows of ``structure``; empty where these are not wanted.
        passes: Encoder passes that they took.
    """

    rows: Sequence[dict[str, list[Row]]]
    maps: Sequence[BegunRow]
    passes: int

    def tables(self) -> Iterator[dict[str, list[Row]]]:
        """The rows of each image by table, once its maps have arrived."""
        if not self.maps:
            yield from self.rows
            return
        for rows, maps in zip(self.rows, self.maps, strict=True):
            yield {**rows, "structure": [maps.row()]}


@dataclass(frozen=True, slots=True)
class BegunBatch:
    """Images that the segmenter has with their prompts; a GPU may still be working on them.

    Attributes:
        task: What is refined, and how.
        segmenter: The segmenter.
        encoded: The views that were encoded; all images whole where maps are made.
        images: Their predictions, and their pixels: uint8 (H, W, 3), RGB.
        asked: The answers to their prompts; None where the policy is none.
    """

    task: RefineTask
    segmenter: Segmenter
    encoded: EncodedViews
    images: Sequence[tuple[ImagePredictions, np.ndarray]]
    asked: Asked | None

    def decided(self) -> DecidedBatch:
        """Make the masks once the answers have arrived, then begin the structural maps.

        The points of the maps lie on the masks, so the maps cannot begin earlier. Nothing waits for
        them here: give the device the next images before `DecidedBatch.tables`.
        """
        answers: Sequence[Sequence[RefinedMask] | None] = [None] * len(self.images)
        if self.asked is not None:
            answers = self.asked.masks()
        rows, maps = [], []
        pairs = zip(self.images, answers, strict=True)
        for index, ((predictions, image), masks) in enumerate(pairs):
            rows.append(decided_rows(self.task, predictions, masks))
            if self.task.targets is not None:
                maps.append(self._begin_maps(index, predictions, image, masks, self.task.targets))
        return DecidedBatch(rows, maps, len(self.encoded.places))

    def _begin_maps(
        self,
        index: int,
        predictions: ImagePredictions,
        image: np.ndarray,
        masks: Sequence[RefinedMask] | None,
        targets: TargetSettings,
    ) -> BegunRow:
        size = (image.shape[0], image.shape[1])
        rles = likely_masks(self.task, predictions, masks)
        place = self.encoded.index(whole(index, *size))
        embeddings, record = self.encoded.embeddings, predictions.record
        return begin_row(self.segmenter, embeddings, place, record, size, rles, targets)


def begin_batch(
    task: RefineTask,
    segmenter: Segmenter,
    images: Sequence[tuple[ImagePredictions, np.ndarray]],
) -> BegunBatch:
    """Give a batch of images to the segmenter, without waiting for its answers.

    Args:
        task: What is refined, and how.
        segmenter: The segmenter.
        images: Predictions and pixels of B images.
    """
    pixels = [image for _, image in images]
    sizes = [(image.shape[0], image.shape[1]) for image in pixels]
    places: set[ViewPlace] = set()
    plan: ViewPlan | None = None
    instances = [predictions.instances for predictions, _ in images]
    if task.policy is not None:
        plan = plan_batch(segmenter, instances, sizes, task.policy)
        places = plan.places()
    if task.targets is not None:
        places |= {whole(number, *size) for number, size in enumerate(sizes)}
    encoded = encode_views(segmenter, pixels, places, task.views_a_pass)
    asked = None if plan is None else ask(segmenter, encoded, instances, plan)
    return BegunBatch(task, segmenter, encoded, images, asked)
