"""A batch of images on its way through the segmenter."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from s4m_pipeline.segmenter.base import Embeddings, Segmenter
from s4m_pipeline.segmenter.instances import RefinedMask
from s4m_pipeline.segmenter.refinement import Asked, ask
from s4m_pipeline.stages.refine_labels import (
    ImagePredictions,
    RefineTask,
    decided_rows,
    likely_masks,
)
from s4m_pipeline.stages.refine_rows import Row
from s4m_pipeline.stages.structure import structure_row


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

    def tables(self) -> Iterator[dict[str, list[Row]]]:
        """What is written of each image, once the answers have arrived."""
        found: Sequence[Sequence[RefinedMask] | None] = [None] * len(self.images)
        if self.asked is not None:
            found = self.asked.masks()
        segmenter, targets = self.segmenter, self.task.targets
        for index, ((seen, image), masks) in enumerate(zip(self.images, found, strict=True)):
            made = decided_rows(self.task, seen, masks)
            if targets is not None:
                size = (image.shape[0], image.shape[1])
                rles = likely_masks(self.task, seen, masks)
                row = structure_row(
                    segmenter, self.embeddings, index, seen.record, size, rles, targets
                )
                made["structure"] = [row]
            yield made


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
