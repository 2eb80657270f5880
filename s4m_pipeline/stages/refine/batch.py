"""A batch of images on its way through the segmenter."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from s4m_pipeline.refinement.ask import Asked, ask
from s4m_pipeline.refinement.instances import RefinedMask
from s4m_pipeline.segmenter.base import Embeddings, Segmenter
from s4m_pipeline.stages.refine.labels import ImagePredictions, decided_rows, likely_masks
from s4m_pipeline.stages.refine.refine_task import RefineTask
from s4m_pipeline.stages.refine.rows import Row
from s4m_pipeline.stages.structure_rows import BegunRow, begin_row
from s4m_pipeline.stages.structure_settings import TargetSettings


@dataclass(frozen=True, slots=True)
class DecidedBatch:
    """Images whose masks are made; a GPU may still be at their structural maps.

    Attributes:
        made: The rows of each of B images by table, without ``structure``.
        maps: Their rows of ``structure``; none where they are not wanted.
    """

    made: Sequence[dict[str, list[Row]]]
    maps: Sequence[BegunRow]

    def tables(self) -> Iterator[dict[str, list[Row]]]:
        """What is written of each image, once its maps have arrived."""
        if not self.maps:
            yield from self.made
            return
        for made, maps in zip(self.made, self.maps, strict=True):
            yield {**made, "structure": [maps.row()]}


@dataclass(frozen=True, slots=True)
class BegunBatch:
    """Images that are encoded and prompted for; a GPU may still be at them.

    Attributes:
        task: What is refined, and how.
        segmenter: Has encoded them.
        embeddings: Of B images.
        images: Their predictions, and their pixels: uint8 (H, W, 3), RGB.
        asked: Their prompts; None where the policy is none.
    """

    task: RefineTask
    segmenter: Segmenter
    embeddings: Embeddings
    images: Sequence[tuple[ImagePredictions, np.ndarray]]
    asked: Asked | None

    def decided(self) -> DecidedBatch:
        """Make the masks once the answers have arrived, then ask for structural maps.

        The maps' points lie on the masks, so they cannot be asked for with the prompts. Nothing
        waits for them here: give the device the next images before `DecidedBatch.tables`.
        """
        found: Sequence[Sequence[RefinedMask] | None] = [None] * len(self.images)
        if self.asked is not None:
            found = self.asked.masks()
        made, maps = [], []
        for index, ((seen, image), masks) in enumerate(zip(self.images, found, strict=True)):
            made.append(decided_rows(self.task, seen, masks))
            if self.task.targets is not None:
                maps.append(self._begin_maps(index, seen, image, masks, self.task.targets))
        return DecidedBatch(made, maps)

    def _begin_maps(
        self,
        index: int,
        seen: ImagePredictions,
        image: np.ndarray,
        masks: Sequence[RefinedMask] | None,
        targets: TargetSettings,
    ) -> BegunRow:
        size = (image.shape[0], image.shape[1])
        rles = likely_masks(self.task, seen, masks)
        return begin_row(self.segmenter, self.embeddings, index, seen.record, size, rles, targets)


def begin_batch(
    task: RefineTask,
    segmenter: Segmenter,
    images: Sequence[tuple[ImagePredictions, np.ndarray]],
) -> BegunBatch:
    """Give a batch of images to the segmenter, without waiting for its answers.

    Args:
        task: What is refined, and how.
        segmenter: Encodes and answers.
        images: Predictions and pixels of B images.
    """
    embeddings = segmenter.encode([image for _, image in images])
    asked = None
    if task.policy is not None:
        instances = [seen.instances for seen, _ in images]
        asked = ask(segmenter, embeddings, instances, task.policy)
    return BegunBatch(task, segmenter, embeddings, images, asked)
