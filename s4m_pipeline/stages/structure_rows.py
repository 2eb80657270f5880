"""Rows of the ``structure`` table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from pycocotools import mask as mask_api

from s4m_pipeline.artifacts.seeds import rng
from s4m_pipeline.data.formats.coco.segmentation import as_coco_rles
from s4m_pipeline.data.image_set import ImageRecord
from s4m_pipeline.segmenter.base import Embeddings, Segmenter
from s4m_pipeline.segmenter.structure import BegunTarget, begin_target, draw_query_points
from s4m_pipeline.stages.structure_settings import TargetSettings


@dataclass(frozen=True, slots=True)
class BegunRow:
    """A row of the ``structure`` table whose maps a GPU may still be making.

    Attributes:
        image: The columns that say which image the row is of.
        target: The maps.
    """

    image: Mapping[str, Any]
    target: BegunTarget

    def row(self) -> dict[str, Any]:
        """The row, once the maps have arrived."""
        target = self.target.collect()
        return {
            **self.image,
            "points": target.points.reshape(-1),
            "similarity": target.similarity.tobytes(),
            "scale": target.scale,
            "offset": target.offset,
        }


def begin_row(
    segmenter: Segmenter,
    embeddings: Embeddings,
    index: int,
    record: ImageRecord,
    size: tuple[int, int],
    rles: Sequence[bytes],
    settings: TargetSettings,
) -> BegunRow:
    """Begin one image's row of the ``structure`` table, without waiting for a GPU.

    Args:
        segmenter: The segmenter.
        embeddings: Features of a batch of images.
        index: The image's place in the batch.
        record: The image.
        size: Its height and width in pixels.
        rles: Masks (COCO's compressed RLE counts). Half of the query points are drawn from their
            union; there may be none.
        settings: Number of points, grid and seed.
    """
    height, width = size
    union = _union(rles, height, width)
    generator = rng(settings.seed, "structure", record.id)
    points = draw_query_points(union, settings.points, generator)
    image = {
        "image_id": record.id,
        "file_name": record.file_name,
        "height": height,
        "width": width,
        "grid": settings.grid,
    }
    return BegunRow(image, begin_target(segmenter, embeddings, index, points, settings.grid))


def _union(rles: Sequence[bytes], height: int, width: int) -> np.ndarray:
    if not rles:
        return np.zeros((height, width), dtype=bool)
    merged = mask_api.merge(as_coco_rles(rles, height, width))
    return np.asarray(mask_api.decode(merged), dtype=bool)
