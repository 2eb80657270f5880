"""Stage ``refine``: the segmenter redraws the teacher's masks, one encoder pass an image.

Predictions below the score or too small are dropped, the rest is prompted by the run's policy; the
teacher's mask, the new one, the candidates' scores and the decision stand in one row. Structural
targets of the same images come from the same pass when the student asks for them.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from s4m_pipeline.artifacts.shards import Shard, ShardResult
from s4m_pipeline.artifacts.tables import read_rows
from s4m_pipeline.config import RunConfig, result_settings
from s4m_pipeline.data.image_set import ImageRecord
from s4m_pipeline.execution.devices import settle
from s4m_pipeline.execution.local import Advance, Place, WorkerFactory
from s4m_pipeline.stages.base import Run, Stage, label_categories
from s4m_pipeline.stages.pseudo_label import PseudoLabel
from s4m_pipeline.stages.refine_rows import (
    Row,
    drop_reason,
    refined,
    teacher_instance,
    unrefined,
)
from s4m_pipeline.stages.segmenter_settings import (
    SegmenterSettings,
    check_segmenter_section,
    segmenter_digest,
    segmenter_settings,
)
from s4m_pipeline.stages.sharded import ShardedStage, in_batches, load_images
from s4m_pipeline.stages.structure import TargetSettings, structure_row


def wants_structure(config: RunConfig) -> bool:
    """Whether the student learns from structural targets of the unlabelled images."""
    return config.student.structure_weight > 0


def wants_segmenter(config: RunConfig) -> bool:
    """Whether refinement prompts the segmenter at all."""
    return config.refine.policy != "none" or wants_structure(config)


class Refine(ShardedStage):
    """Refined labels of the unlabelled images."""

    name: ClassVar[str] = "refine"

    def settings(self, config: RunConfig) -> dict[str, Any]:
        """Thresholds, policy, segmenter, and the structural targets' settings when made."""
        settings: dict[str, Any] = {
            "refine": result_settings(config.refine),
            "score": config.pseudo_label.score,
            "min_area": config.pseudo_label.min_area,
        }
        if wants_segmenter(config):
            settings["segmenter"] = segmenter_settings(config)
        if wants_structure(config):
            settings["structure"] = result_settings(config.structure)
            settings["seed"] = config.seed
        return settings

    def sources(self, run: Run) -> dict[str, str]:
        """The unlabelled images and the segmenter's weights."""
        sources = {"unlabelled": run.images.unlabelled_digest()}
        if wants_segmenter(run.config):
            sources["segmenter"] = segmenter_digest(run)
        return sources

    def upstream(self, config: RunConfig) -> dict[str, Stage]:
        """The teacher's predictions."""
        return {"predictions": PseudoLabel()}

    def check(self, run: Run) -> None:
        """Refuse a run without unlabelled images, or a segmenter that cannot be built."""
        run.images.load_unlabelled_set()
        if wants_segmenter(run.config):
            check_segmenter_section(run.config)

    def records(self, run: Run) -> list[ImageRecord]:
        """The unlabelled images."""
        return run.images.unlabelled.images

    def categories(self, run: Run) -> Sequence[Mapping[str, Any]]:
        """The labelled set's categories."""
        return label_categories(run.images.labelled.categories)

    def bytes_per_image(self, run: Run) -> int:
        """Labels about 20 KB, and 0.7 byte a cell of each structural map."""
        section = run.config.structure
        maps = 0.7 * section.points * section.grid**2 if wants_structure(run.config) else 0
        return 20_000 + int(maps)

    def factory(self) -> WorkerFactory:
        """Makes a ``_Worker``."""
        return _make_worker

    def argument(self, run: Run) -> _Task:
        """Predictions, images and settings."""
        config = run.config
        return _Task(
            predictions=run.require(PseudoLabel()),
            records={record.id: record for record in self.records(run)},
            segmenter=(
                SegmenterSettings.of(config, run.device) if wants_segmenter(config) else None
            ),
            policy=result_settings(config.refine),
            score=config.pseudo_label.score,
            min_area=config.pseudo_label.min_area,
            targets=TargetSettings.of(config) if wants_structure(config) else None,
        )


@dataclass(frozen=True, slots=True)
class _Task:
    predictions: Path
    records: Mapping[int, ImageRecord]
    segmenter: SegmenterSettings | None
    policy: Mapping[str, Any]
    score: float
    min_area: float
    targets: TargetSettings | None


class _Worker:
    def __init__(self, task: _Task, place: Place) -> None:
        self._task = task
        self._segmenter = None
        if task.segmenter is not None:
            self._segmenter = task.segmenter.build(settle(task.segmenter.device, place))

    def process(self, shard: Shard, advance: Advance) -> ShardResult:
        """Refine a shard's predictions."""
        start = time.perf_counter()
        aside = read_rows(self._task.predictions, "quarantine", shard.image_ids)
        shard = shard.without(row["image_id"] for row in aside)
        advance(len(aside))
        by_image = self._read(shard)
        if self._task.policy["policy"] == "none" and self._task.targets is None:
            result = self._keep(by_image, shard, advance)
        else:
            result = self._prompt(by_image, shard, advance)
        # What the teacher could not read has no labels; it stays aside in what follows.
        result.rows["quarantine"] = [*aside, *result.rows.get("quarantine", [])]
        result.counts["quarantined"] = len(result.rows["quarantine"])
        rows = result.rows["refined"]
        decisions = Counter(str(row["decision"]) for row in rows)
        result.counts |= {
            "instances": decisions["refined"] + decisions["kept"],
            "refined": decisions["refined"],
            "kept": decisions["kept"],
            "dropped": decisions["dropped"],
        }
        result.seconds = {"refine": time.perf_counter() - start}
        return result

    def _read(self, shard: Shard) -> dict[int, list[Row]]:
        """The shard's predictions by image, those dropped decided already."""
        by_image: dict[int, list[Row]] = {image_id: [] for image_id in shard.image_ids}
        for row in read_rows(self._task.predictions, "predictions", shard.image_ids):
            reason = drop_reason(row, self._task.score, self._task.min_area)
            by_image[row["image_id"]].append(
                unrefined(row, "dropped", reason) if reason else dict(row)
            )
        return by_image

    def _keep(
        self, by_image: Mapping[int, list[Row]], shard: Shard, advance: Advance
    ) -> ShardResult:
        rows = [
            row if "decision" in row else unrefined(row, "kept", "policy none")
            for image_id in shard.image_ids
            for row in by_image[image_id]
        ]
        advance(len(shard.image_ids))
        return ShardResult({"refined": rows}, {"images": len(shard.image_ids)})

    def _prompt(
        self, by_image: Mapping[int, list[Row]], shard: Shard, advance: Advance
    ) -> ShardResult:
        task = self._task
        if self._segmenter is None or task.segmenter is None:
            raise ValueError("a policy other than none needs a segmenter")
        rows: list[Row] = []
        maps: list[Row] = []
        aside: list[dict[str, Any]] = []
        records = [task.records[image_id] for image_id in shard.image_ids]
        if task.targets is None:  # an image without labels needs no encoder pass
            empty = [r for r in records if all("decision" in row for row in by_image[r.id])]
            rows += [row for record in empty for row in by_image[record.id]]
            records = [r for r in records if r not in empty]
            advance(len(empty))
        images = load_images(records, Refine.name, aside)
        for batch in in_batches(images, task.segmenter.batch_size):
            made = self._refine_batch(batch, by_image)
            rows += made.rows["refined"]
            maps += made.rows.get("structure", [])
            advance(len(batch))
        advance(len(aside))
        rows.sort(key=lambda row: (row["image_id"], row["instance_id"]))
        tables: dict[str, list[dict[str, Any]]] = {"refined": [*rows], "quarantine": aside}
        if task.targets is not None:
            tables["structure"] = [*maps]
        done = len(shard.image_ids) - len(aside)
        return ShardResult(tables, {"images": done})

    def _refine_batch(
        self, batch: Sequence[tuple[ImageRecord, np.ndarray]], by_image: Mapping[int, list[Row]]
    ) -> ShardResult:
        from s4m_pipeline.segmenter.refinement import RefinePolicy, refine_images

        task, segmenter = self._task, self._segmenter
        if segmenter is None:
            raise ValueError("no segmenter")
        embeddings = segmenter.encode([image for _, image in batch])
        asked = [[r for r in by_image[record.id] if "decision" not in r] for record, _ in batch]
        if task.policy["policy"] == "none":
            done = [[unrefined(row, "kept", "policy none") for row in rows] for rows in asked]
        else:
            instances = [[teacher_instance(row) for row in rows] for rows in asked]
            masks = refine_images(segmenter, embeddings, instances, RefinePolicy(**task.policy))
            done = [
                [refined(row, mask) for row, mask in zip(rows, found, strict=True)]
                for rows, found in zip(asked, masks, strict=True)
            ]
        tables: dict[str, list[dict[str, Any]]] = {"refined": [], "structure": []}
        for index, (record, image) in enumerate(batch):
            dropped = [row for row in by_image[record.id] if "decision" in row]
            tables["refined"] += [*done[index], *dropped]
            if task.targets is not None:
                size = (image.shape[0], image.shape[1])
                rles = [row["mask_rle"] for row in done[index]]
                tables["structure"].append(
                    structure_row(segmenter, embeddings, index, record, size, rles, task.targets)
                )
        return ShardResult(tables)


def _make_worker(task: _Task, place: Place) -> _Worker:
    return _Worker(task, place)
