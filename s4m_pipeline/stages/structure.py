"""Stage ``structure``: the segmenter's structural targets of the labelled images.

In each image, half of the query points lie on the union of the masks and half anywhere. Each point
prompts the segmenter by itself, and what is stored is how similar the decoder's image features at
the point are to those of every cell (docs/method.md, "Structural distillation").
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from s4m_pipeline.config import RunConfig
from s4m_pipeline.config_section import result_settings
from s4m_pipeline.data.image_set import ImageRecord
from s4m_pipeline.engine.image_sources import LABELLED
from s4m_pipeline.engine.run import Run
from s4m_pipeline.engine.sharded import ShardedStage
from s4m_pipeline.engine.stage import Stage
from s4m_pipeline.stages.segmenter_settings import (
    SegmenterSettings,
    check_segmenter_section,
    segmenter_digest,
    segmenter_settings,
)
from s4m_pipeline.stages.structure_settings import TargetSettings, map_bytes


@dataclass(frozen=True)
class Structure(ShardedStage):
    """Structural targets of the labelled images."""

    name: ClassVar[str] = "structure"
    images = LABELLED
    worker = "s4m_pipeline.stages.structure_worker:StructureWorker"

    @classmethod
    def of_round(cls, config: RunConfig, number: int) -> Sequence[Stage]:
        """Once, where teacher or student learn from structural targets."""
        wanted = config.teacher.structure_weight > 0 or config.student.structure_weight > 0
        return [cls()] if wanted and number == 1 else []

    def settings(self, config: RunConfig) -> dict[str, Any]:
        """Segmenter, points, grid and seed."""
        return {
            "seed": config.seed,
            "segmenter": segmenter_settings(config),
            "structure": result_settings(config.structure),
        }

    def sources(self, run: Run) -> dict[str, str]:
        """Labelled images and the segmenter's weights."""
        return {**super().sources(run), "segmenter": segmenter_digest(run)}

    def check(self, run: Run) -> None:
        """Refuse a segmenter that cannot be built, and labelled images that cannot be used."""
        check_segmenter_section(run.config)
        super().check(run)

    def bytes_per_image(self, run: Run) -> int:
        """About 0.7 byte a cell of each map, after compression."""
        return int(0.7 * map_bytes(run.config))

    def row_bytes(self, run: Run) -> int:
        """A byte a cell of each map."""
        return map_bytes(run.config)

    def task(self, run: Run) -> StructureTask:
        """Images, masks and settings."""
        labelled = run.images.labelled
        return StructureTask(
            segmenter=SegmenterSettings.of(run.config, run.device),
            records={record.id: record for record in labelled.images},
            masks={key: [i.rle for i in value] for key, value in labelled.instances.items()},
            targets=TargetSettings.of(run.config),
        )


@dataclass(frozen=True, slots=True)
class StructureTask:
    """The images that a worker makes targets of, and how.

    Attributes:
        segmenter: What the segmenter is built with.
        records: The images by id.
        masks: The labelled instances' masks by image id, as COCO's compressed RLE counts.
        targets: Number of points, grid and seed.
    """

    segmenter: SegmenterSettings
    records: Mapping[int, ImageRecord]
    masks: Mapping[int, list[bytes]]
    targets: TargetSettings
