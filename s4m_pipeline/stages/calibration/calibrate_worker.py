"""The worker of ``calibrate``: refines by every policy and makes rows of ``calibration``."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from s4m_pipeline.artifacts.decision import Decision
from s4m_pipeline.artifacts.shards import Shard, ShardResult
from s4m_pipeline.artifacts.tables import read_rows
from s4m_pipeline.devices.placement import Place, settle
from s4m_pipeline.engine.reading import in_batches, load_images
from s4m_pipeline.execution.base import Advance, ShardWorker
from s4m_pipeline.refinement.ask import ask
from s4m_pipeline.refinement.instances import RefinedMask
from s4m_pipeline.refinement.rle import iou
from s4m_pipeline.refinement.view_plan import (
    ViewPlace,
    ViewPlan,
    encode_views,
    in_views_alone,
    plan_batch,
)
from s4m_pipeline.stages.calibration.calibrate import CalibrateTask
from s4m_pipeline.stages.calibration.pairs import Pair, overlapping
from s4m_pipeline.stages.refine.rows import teacher_instance


@dataclass(slots=True)
class _Measurable:
    """An image's predictions that are refined, and those of them that are measured."""

    rows: list[dict[str, Any]]
    pairs: list[Pair]


class CalibrateWorker(ShardWorker):
    """Refines labelled images by every policy and measures the masks.

    Args:
        stage: The stage's name.
        task: Predictions, truth and policies.
        place: Which worker this is.
    """

    def __init__(self, stage: str, task: CalibrateTask, place: Place) -> None:
        self._stage, self._task = stage, task
        self._segmenter = task.segmenter.build(settle(task.segmenter.device, place), task.records)

    def process(self, shard: Shard, advance: Advance) -> ShardResult:
        """Measure a shard's predictions."""
        start = time.perf_counter()
        aside = read_rows(self._task.predictions, "quarantine", shard.image_ids)
        shard = shard.without(row["image_id"] for row in aside)
        advance(len(aside))
        measurable = self._measurable(shard)
        records = [self._task.records[image_id] for image_id in measurable]
        done = len(shard.image_ids) - len(records)  # nothing to measure in these
        advance(done)
        rows: list[dict[str, Any]] = []
        unreadable: list[dict[str, Any]] = []
        images = load_images(records, self._stage, unreadable, self.decoded_bytes)
        size = self._task.segmenter.batch_size
        for batch in in_batches(images, size, self.decoded_bytes):
            pixels = [image for _, image in batch]
            rows += self._measure(pixels, [measurable[record.id] for record, _ in batch])
            advance(len(batch))
            done += len(batch)
        advance(len(unreadable))
        rows.sort(key=lambda row: (row["image_id"], row["instance_id"]))  # policies in their order
        return ShardResult(
            {"calibration": rows, "quarantine": [*aside, *unreadable]},
            {
                "images": done,
                "instances": len(rows) // len(self._task.policies),
                "quarantined": len(aside) + len(unreadable),
            },
            {self._stage: time.perf_counter() - start},
            warnings=list(self._segmenter.warnings),
        )

    def _measurable(self, shard: Shard) -> dict[int, _Measurable]:
        """The predictions to refine by image; images with none to measure are left out."""
        by_image: dict[int, list[dict[str, Any]]] = {}
        for row in read_rows(self._task.predictions, "predictions", shard.image_ids):
            if row["score"] >= self._task.min_score:
                by_image.setdefault(row["image_id"], []).append(row)
        truth = self._task.truth
        images = {
            key: _Measurable(rows, overlapping(rows, truth.get(key, [])))
            for key, rows in by_image.items()
        }
        return {key: image for key, image in images.items() if image.pairs}

    def _measure(
        self, images: Sequence[np.ndarray], measurable: Sequence[_Measurable]
    ) -> list[dict[str, Any]]:
        """Rows of ``calibration`` of a batch of images."""
        rows = []
        for name, masks in self._refined(images, measurable):
            for image, theirs in zip(measurable, masks, strict=True):
                of_row = dict(zip((row["instance_id"] for row in image.rows), theirs, strict=True))
                for pair in image.pairs:
                    mask = of_row[pair.row["instance_id"]]
                    size = (pair.row["height"], pair.row["width"])
                    after = iou(mask.mask_rle, pair.truth.rle, *size)
                    rows.append(_row(pair, name, mask.decision, after))
        return rows

    def _refined(
        self, images: Sequence[np.ndarray], measurable: Sequence[_Measurable]
    ) -> Iterator[tuple[str, list[list[RefinedMask]]]]:
        """The masks of a batch's instances by each policy, from one pass of the encoder a view.

        Policies that differ in their view alone ask the segmenter once where the views are equal.
        """
        instances = [[teacher_instance(row) for row in image.rows] for image in measurable]
        sizes = [(image.shape[0], image.shape[1]) for image in images]
        plans = {
            name: plan_batch(self._segmenter, instances, sizes, policy)
            for name, policy in self._task.policies.items()
        }
        places = set[ViewPlace]().union(*(plan.places() for plan in plans.values()))
        encoded = encode_views(self._segmenter, images, places, self._task.segmenter.batch_size)
        known: list[tuple[ViewPlan, list[list[RefinedMask]]]] = []
        for name, plan in plans.items():
            plan = in_views_alone(plan)
            masks = next((masks for other, masks in known if other == plan), None)
            if masks is None:
                masks = ask(self._segmenter, encoded, instances, plan).masks()
                known.append((plan, masks))
            yield name, masks


def _row(pair: Pair, policy: str, decision: Decision, after: float) -> dict[str, Any]:
    names = ("image_id", "instance_id", "category_id", "score", "area")
    return {name: pair.row[name] for name in names} | {
        "policy": policy,
        "decision": decision,
        "iou_before": pair.iou,
        "iou_after": after,
    }
