"""Stage ``structure``: the segmenter's structural targets of the labelled images.

In each image half of the query points lie on the union of the masks and half anywhere. Each point
alone prompts the segmenter, and what is stored is how similar the decoder's image features at the
point are to those of every cell (docs/method.md, "Structural distillation").
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from s4m_pipeline.artifacts.shards import Shard, ShardResult
from s4m_pipeline.config import RunConfig, result_settings
from s4m_pipeline.data.image_set import ImageRecord
from s4m_pipeline.devices.placement import Place, settle
from s4m_pipeline.engine.run import Run
from s4m_pipeline.engine.sharded import ShardedStage
from s4m_pipeline.engine.stage import label_categories
from s4m_pipeline.engine.streaming import Batch, OpenShard, StreamingWorker
from s4m_pipeline.execution.ahead import one_ahead
from s4m_pipeline.execution.base import Advance, WorkerFactory
from s4m_pipeline.stages.segmenter_settings import (
    SegmenterSettings,
    check_segmenter_section,
    segmenter_digest,
    segmenter_settings,
)
from s4m_pipeline.stages.structure_rows import BegunRow, TargetSettings, begin_row, map_bytes

if TYPE_CHECKING:
    import numpy as np


class Structure(ShardedStage):
    """Structural targets of the labelled images."""

    name: ClassVar[str] = "structure"

    def settings(self, config: RunConfig) -> dict[str, Any]:
        """Segmenter, points, grid and seed."""
        return {
            "seed": config.seed,
            "segmenter": segmenter_settings(config),
            "structure": result_settings(config.structure),
        }

    def sources(self, run: Run) -> dict[str, str]:
        """Labelled images and the segmenter's weights."""
        return {"labelled": run.images.labelled_digest(), "segmenter": segmenter_digest(run)}

    def check(self, run: Run) -> None:
        """Refuse a segmenter that cannot be built, and labelled images that cannot be used."""
        check_segmenter_section(run.config)
        run.images.load_labelled_sets()

    def records(self, run: Run) -> list[ImageRecord]:
        """The labelled images."""
        return run.images.labelled.images

    def categories(self, run: Run) -> Sequence[Mapping[str, Any]]:
        """The labelled set's categories."""
        return label_categories(run.images.labelled.categories)

    def bytes_per_image(self, run: Run) -> int:
        """About 0.7 byte a cell of each map, after compression."""
        return int(0.7 * map_bytes(run.config))

    def row_bytes(self, run: Run) -> int:
        """A byte a cell of each map."""
        return map_bytes(run.config)

    def factory(self) -> WorkerFactory:
        """Makes a ``_Worker``."""
        return _make_worker

    def argument(self, run: Run) -> _Task:
        """Images, their masks and the settings."""
        labelled = run.images.labelled
        return _Task(
            segmenter=SegmenterSettings.of(run.config, run.device),
            records={record.id: record for record in labelled.images},
            masks={key: [i.rle for i in value] for key, value in labelled.instances.items()},
            targets=TargetSettings.of(run.config),
        )


@dataclass(frozen=True, slots=True)
class _Task:
    segmenter: SegmenterSettings
    records: Mapping[int, ImageRecord]
    masks: Mapping[int, list[bytes]]
    targets: TargetSettings


class _Worker(StreamingWorker[OpenShard, "np.ndarray"]):
    stage = Structure.name

    def __init__(self, task: _Task, place: Place) -> None:
        self._task = task
        self._segmenter = task.segmenter.build(settle(task.segmenter.device, place), task.records)
        self.batch_size = task.segmenter.batch_size
        self.streams = self._segmenter.device.type != "cpu"

    def open(self, shard: Shard, advance: Advance) -> OpenShard:
        """All images of a shard are read."""
        records = [self._task.records[image_id] for image_id in shard.image_ids]
        return OpenShard(shard, records, {"structure": [], "quarantine": []})

    def prepare(self, image: np.ndarray) -> np.ndarray:
        """Images go to the segmenter as they are."""
        return image

    def through(
        self, batches: Iterator[Batch[OpenShard, np.ndarray]]
    ) -> Generator[tuple[OpenShard, int], None, None]:
        """A GPU has the next batch while the rows of the last one are taken."""
        for opened, begun in one_ahead(self._begin, batches):
            opened.add({"structure": [one.row() for one in begun]})
            yield opened, len(begun)

    def close(self, done: OpenShard) -> ShardResult:
        """Count the rows."""
        made, aside = len(done.tables["structure"]), len(done.tables["quarantine"])
        return ShardResult(
            done.tables,
            {"images": made, "quarantined": aside},
            warnings=list(self._segmenter.warnings),
        )

    def _begin(self, given: Batch[OpenShard, np.ndarray]) -> tuple[OpenShard, list[BegunRow]]:
        """Ask for the rows of a batch, without waiting for a GPU."""
        opened, batch = given
        if not batch:
            return opened, []
        segmenter, task = self._segmenter, self._task
        embeddings = segmenter.encode([image for _, image in batch])
        rows = []
        for index, (record, image) in enumerate(batch):
            size = (image.shape[0], image.shape[1])
            rles = task.masks.get(record.id, [])
            rows.append(begin_row(segmenter, embeddings, index, record, size, rles, task.targets))
        return opened, rows


def _make_worker(task: _Task, place: Place) -> _Worker:
    return _Worker(task, place)
