"""Rows of the ``structure`` table, and what their maps are made with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from s4m_pipeline.artifacts.seeds import rng
from s4m_pipeline.config import RunConfig
from s4m_pipeline.data.image_set import ImageRecord

if TYPE_CHECKING:
    import numpy as np

    from s4m_pipeline.segmenter.base import Embeddings, Segmenter
    from s4m_pipeline.segmenter.structure import BegunTarget


def map_bytes(config: RunConfig) -> int:
    """Bytes of an image's structural maps: one a cell."""
    return config.structure.points * config.structure.grid**2


@dataclass(frozen=True, slots=True)
class TargetSettings:
    """What structural targets are made with."""

    points: int
    grid: int
    seed: int

    @classmethod
    def of(cls, config: RunConfig) -> TargetSettings:
        """Take them from a run's configuration."""
        return cls(config.structure.points, config.structure.grid, config.seed)


@dataclass(frozen=True, slots=True)
class BegunRow:
    """A row of the ``structure`` table whose maps a GPU may still be at.

    Attributes:
        image: Its columns that say which image it is of.
        target: Its maps.
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
    """Ask for one image's row of the ``structure`` table, without waiting for a GPU.

    Args:
        segmenter: The segmenter.
        embeddings: Features of a batch of images.
        index: The image's place in the batch.
        record: The image.
        size: Its height and width in pixels.
        rles: Masks whose union half of the query points is drawn from; may be empty.
        settings: Number of points, grid and seed.
    """
    from s4m_pipeline.segmenter.structure import begin_target, draw_query_points

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
    import numpy as np
    from pycocotools import mask as mask_api

    from s4m_pipeline.data.formats.coco.segmentation import as_coco_rles

    if not rles:
        return np.zeros((height, width), dtype=bool)
    merged = mask_api.merge(as_coco_rles(rles, height, width))
    return np.asarray(mask_api.decode(merged), dtype=bool)
