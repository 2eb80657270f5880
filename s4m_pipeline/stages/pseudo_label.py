"""Stage ``pseudo-label``: the teacher over the unlabelled images, streamed to Parquet.

Everything above a low score is kept with its class distribution and soft mask, so that thresholds
can be moved and masks fused later without the teacher. Prompt points are drawn here, from the
softmax of the mask logits (docs/method.md, "Pseudo-label refinement").
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from s4m_pipeline.artifacts.shards import Shard, ShardResult
from s4m_pipeline.config import RunConfig, result_settings
from s4m_pipeline.data.image_set import ImageRecord
from s4m_pipeline.devices.placement import Place, settle
from s4m_pipeline.engine.registry import OfRound, model_of_round
from s4m_pipeline.engine.run import Run
from s4m_pipeline.engine.sharded import ShardedStage
from s4m_pipeline.engine.stage import Stage, label_categories
from s4m_pipeline.engine.streaming import Batch, OpenShard, StreamingWorker
from s4m_pipeline.execution.ahead import done_ahead
from s4m_pipeline.execution.base import Advance, WorkerFactory
from s4m_pipeline.stages.prediction_rows import PredictionSettings, prediction_rows
from s4m_pipeline.stages.training import CHECKPOINT

if TYPE_CHECKING:
    import numpy as np

    from s4m_pipeline.models.predictor import InstancePredictions
    from s4m_pipeline.models.scaled_image import ScaledImage

    Predicted = tuple[Batch[OpenShard, ScaledImage], list[InstancePredictions]]


class PseudoLabel(OfRound, ShardedStage):
    """The teacher's predictions on the unlabelled images.

    From the second round on the teacher is the student of the round before.
    """

    name: ClassVar[str] = "pseudo-label"

    def settings(self, config: RunConfig) -> dict[str, Any]:
        """What shapes the stored predictions; ``score`` and ``min_area`` act later."""
        section = result_settings(config.pseudo_label)
        return {"seed": config.seed, "min_score": section["min_score"], "points": section["points"]}

    def sources(self, run: Run) -> dict[str, str]:
        """The unlabelled images."""
        return {"unlabelled": run.images.unlabelled_digest()}

    def upstream(self, config: RunConfig) -> dict[str, Stage]:
        """The teacher: this run's, or the student of the round before."""
        return {"teacher": model_of_round(self.round - 1)}

    def check(self, run: Run) -> None:
        """Refuse a run without unlabelled images."""
        run.images.load_unlabelled_set()

    def records(self, run: Run) -> list[ImageRecord]:
        """The unlabelled images."""
        return run.images.unlabelled.images

    def categories(self, run: Run) -> Sequence[Mapping[str, Any]]:
        """The labelled set's categories, which the teacher was trained on."""
        return label_categories(run.images.labelled.categories)

    def bytes_per_image(self, run: Run) -> int:
        """About 20 KB: some ten instances of 2 KB."""
        return 20_000

    def factory(self) -> WorkerFactory:
        """Makes a ``_Worker``."""
        return _make_worker

    def argument(self, run: Run) -> _Task:
        """The teacher's checkpoint, the images and the settings."""
        return _Task(
            checkpoint=run.require(model_of_round(self.round - 1)) / CHECKPOINT,
            device=run.device,
            records={record.id: record for record in self.records(run)},
            settings=PredictionSettings.of(run.config),
            batch_size=run.config.pseudo_label.batch_size,
        )


@dataclass(frozen=True, slots=True)
class _Task:
    checkpoint: Path
    device: str
    records: Mapping[int, ImageRecord]
    settings: PredictionSettings
    batch_size: int


class _Worker(StreamingWorker[OpenShard, "ScaledImage"]):
    stage = PseudoLabel.name

    def __init__(self, task: _Task, place: Place) -> None:
        from s4m_pipeline.models.predictor import Predictor

        self._task = task
        self._teacher = Predictor(task.checkpoint, settle(task.device, place))
        self._category_ids = [int(c["id"]) for c in self._teacher.categories]
        self.batch_size = task.batch_size
        self.streams = self._teacher.device.type != "cpu"

    def open(self, shard: Shard, advance: Advance) -> OpenShard:
        """All images of a shard are read."""
        records = [self._task.records[image_id] for image_id in shard.image_ids]
        return OpenShard(shard, records, {"predictions": [], "quarantine": []})

    def prepare(self, image: np.ndarray) -> ScaledImage:
        """Bring an image to the teacher's scale."""
        return self._teacher.scaled(image)

    def through(
        self, batches: Iterator[Batch[OpenShard, ScaledImage]]
    ) -> Generator[tuple[OpenShard, int], None, None]:
        """Make rows; beside a GPU a thread is at the next batch meanwhile.

        The thread does nothing but that: the teacher waits for the GPU many times in a batch.
        """
        with closing(self._found(batches)) as predicted:
            for (opened, batch), found in predicted:
                for (record, image), predictions in zip(batch, found, strict=True):
                    rows = prediction_rows(
                        record, image.original, predictions, self._category_ids, self._task.settings
                    )
                    opened.add({"predictions": rows})
                yield opened, len(batch)

    def close(self, done: OpenShard) -> ShardResult:
        """Count images and rows."""
        rows, aside = done.tables["predictions"], len(done.tables["quarantine"])
        return ShardResult(
            done.tables,
            {"images": len(done.records) - aside, "instances": len(rows), "quarantined": aside},
            warnings=list(self._teacher.warnings),
        )

    def _found(
        self, batches: Iterator[Batch[OpenShard, ScaledImage]]
    ) -> Generator[Predicted, None, None]:
        if self._teacher.device.type == "cpu":
            yield from map(self._predict, batches)
        else:
            yield from done_ahead(self._predict, batches, threads=1, ahead=2)

    def _predict(self, batch: Batch[OpenShard, ScaledImage]) -> Predicted:
        images = [image for _, image in batch[1]]
        if not images:
            return batch, []
        return batch, self._teacher.predict(images, self._task.settings.min_score)


def _make_worker(task: _Task, place: Place) -> _Worker:
    return _Worker(task, place)
