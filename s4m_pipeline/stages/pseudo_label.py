"""Stage ``pseudo-label``: the teacher over the unlabelled images, streamed to Parquet.

Everything above a low score is kept with its class distribution and soft mask, so that thresholds
can be moved and masks fused later without the teacher. Prompt points are drawn here, from the
softmax of the mask logits (METHOD, section 2).
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from s4m_pipeline.artifacts.seeds import rng
from s4m_pipeline.artifacts.shards import Shard, ShardResult
from s4m_pipeline.config import RunConfig, result_settings
from s4m_pipeline.data.image_set import ImageRecord
from s4m_pipeline.devices.placement import settle
from s4m_pipeline.engine.registry import OfRound, model_of_round
from s4m_pipeline.engine.sharded import ShardedStage
from s4m_pipeline.engine.stage import Run, Stage, label_categories
from s4m_pipeline.engine.streaming import Batch, OpenShard, StreamingWorker
from s4m_pipeline.execution.ahead import done_ahead
from s4m_pipeline.execution.local import Advance, Place, WorkerFactory
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
class PredictionSettings:
    """What a prediction must reach to be stored, and the points drawn from it."""

    seed: int
    min_score: float
    points: int

    @classmethod
    def of(cls, config: RunConfig) -> PredictionSettings:
        """Take them from a run's configuration."""
        section = config.pseudo_label
        return cls(config.seed, section.min_score, section.points)


@dataclass(frozen=True, slots=True)
class _Task:
    checkpoint: Path
    device: str
    records: Mapping[int, ImageRecord]
    settings: PredictionSettings
    batch_size: int


def prediction_rows(
    record: ImageRecord,
    size: tuple[int, int],
    found: InstancePredictions,
    category_ids: Sequence[int],
    settings: PredictionSettings,
) -> list[dict[str, Any]]:
    """Turn one image's network output into rows of the ``predictions`` table.

    Args:
        record: The image.
        size: Its height and width in pixels.
        found: Class probabilities (N, K) and mask logits (N, h, w) of its queries.
        category_ids: COCO category id of each class.
        settings: Score limit, number of points, seed.

    Returns:
        Rows by falling score; queries below the limit or with an empty mask have none.
    """
    import numpy as np

    if len(found.class_probs) == 0:
        return []
    labels = found.class_probs.argmax(axis=1)
    scores = found.class_probs.max(axis=1)
    rows: list[dict[str, Any]] = []
    for query in np.argsort(-scores, kind="stable"):
        if scores[query] < settings.min_score:
            break
        row = _mask_columns(found.mask_logits[query], found.stride, size)
        if row is None:
            continue
        generator = rng(settings.seed, "pseudo-label", record.id, len(rows))
        row |= {
            "image_id": record.id,
            "file_name": record.file_name,
            "height": size[0],
            "width": size[1],
            "instance_id": len(rows),
            "category_id": category_ids[int(labels[query])],
            "score": float(scores[query]),
            "class_probs": found.class_probs[query],
            "prompt_points": _points(found, int(query), size, settings.points, generator),
        }
        rows.append(row)
    return rows


def _points(
    found: InstancePredictions,
    query: int,
    size: tuple[int, int],
    count: int,
    generator: np.random.Generator,
) -> np.ndarray:
    from s4m_pipeline.refinement.soft_masks import draw_prompt_points

    logits = found.mask_logits[query]
    count = min(count, logits.size)
    return draw_prompt_points(logits, count, found.stride, *size, generator).reshape(-1)


def _mask_columns(
    logits: np.ndarray, stride: float, size: tuple[int, int]
) -> dict[str, Any] | None:
    """The mask in both its forms; None where it has no pixel."""
    from s4m_pipeline.refinement.rle import bbox_area, encode_crop
    from s4m_pipeline.refinement.soft_masks import (
        decode_soft_mask,
        encode_soft_logits,
        soft_mask_to_pixels,
        soft_mask_window,
    )

    data, box = encode_soft_logits(logits)
    if box[2] == 0:
        return None
    crop = decode_soft_mask(data, box)
    window = soft_mask_window(crop > 127, box, stride, *size)
    pixels = soft_mask_to_pixels(crop, box, stride, *size, window=window) > 0.5
    rle = encode_crop(pixels, window.x, window.y, *size)
    bbox, area = bbox_area(rle, *size)
    if area == 0:
        return None
    return {
        "bbox": bbox,
        "area": area,
        "mask_rle": rle,
        "soft_mask": data,
        "soft_mask_box": box,
        "soft_mask_stride": stride,
    }


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
