"""The worker of ``s4m rethreshold``: rows of an earlier refinement, decided anew."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import pyarrow as pa

from s4m_pipeline.artifacts.rle_checks import not_masks
from s4m_pipeline.artifacts.shards import Shard, ShardResult
from s4m_pipeline.artifacts.tables import read_rows
from s4m_pipeline.devices.placement import Place
from s4m_pipeline.errors import ArtifactError, UsageError
from s4m_pipeline.execution.base import Advance, ShardWorker
from s4m_pipeline.labels.rule import drop_cause
from s4m_pipeline.refinement.instances import RefinedMask
from s4m_pipeline.stages.refine.labels import decided_counts, decided_rows, read_images
from s4m_pipeline.stages.refine.refine_task import RefineTask
from s4m_pipeline.stages.refine.rows import Row

_KEY = ("image_id", "instance_id")
_DECISIVE = (*_KEY, "category_id", "score", "soft_mask")
"""Columns that decide whether a prediction becomes a label."""


def stored_masks(task: RefineTask) -> Path:
    """The artifact whose masks a task takes."""
    if task.stored_masks is None:
        raise ValueError("the task takes no stored masks")
    return task.stored_masks


def require_masks(task: RefineTask, called_with: str) -> None:
    """Refuse thresholds that ask for predictions that were not refined.

    Args:
        task: What is refined, and where the masks are.
        called_with: The options of the command line, for the command in the message.

    Raises:
        UsageError: Some have no mask; the message has their number.
    """
    if task.policy is None or min(task.scores.values()) >= task.min_score:
        return
    missing, ids = 0, sorted(task.records)
    for start in range(0, len(ids), 1024):
        part = ids[start : start + 1024]
        stored = {_key(row) for row in read_rows(stored_masks(task), "segmented", part, _KEY)}
        for row in read_rows(task.predictions, "predictions", part, _DECISIVE):
            wanted = not drop_cause(row, task.score_of(row["category_id"]), task.min_area)
            missing += wanted and _key(row) not in stored
    if missing:
        low = min(task.scores.values())
        raise UsageError(
            f"thresholds as low as {low:g} make labels of {missing} instances that were not "
            f"refined: refine.min_score was {task.min_score:g}.\n"
            f"Stay above it, or refine them with: s4m refine {called_with}"
        )


class RethresholdWorker(ShardWorker):
    """Chooses labels among stored masks.

    Args:
        stage: The stage's name.
        task: What is refined, and where the masks are.
        place: Not used: no device is needed.
    """

    def __init__(self, stage: str, task: RefineTask, place: Place) -> None:
        del stage, place
        self._task, self._source = task, stored_masks(task)

    def process(self, shard: Shard, advance: Advance) -> ShardResult:
        """Choose the labels of a shard's images among the stored masks."""
        start = time.perf_counter()
        aside = read_rows(self._source, "quarantine", shard.image_ids)
        left = shard.without(row["image_id"] for row in aside)
        stored = read_rows(self._source, "segmented", left.image_ids)
        masks = {_key(row): _mask(row) for row in stored}
        tables: dict[str, list[dict[str, Any]]] = {"refined": [], "quarantine": aside}
        if self._task.policy is not None:
            tables["segmented"] = []
        if self._task.targets is not None:
            tables["structure"] = read_rows(self._source, "structure", left.image_ids)
        for image in read_images(self._task, left).values():
            own = None if self._task.policy is None else self._masks_of(image.rows, masks)
            for name, rows in decided_rows(self._task, image, own).items():
                tables[name] += rows
        advance(len(shard.image_ids))
        counts = decided_counts(tables) | {"images": len(left.image_ids)}
        return ShardResult(tables, counts, {"rethreshold": time.perf_counter() - start})

    def _masks_of(
        self, rows: Sequence[Row], stored: Mapping[tuple[int, int], RefinedMask]
    ) -> list[RefinedMask]:
        """The stored masks of an image's predictions, each of the image's pixels.

        Raises:
            ArtifactError: One is missing, or of another size.
        """
        if any(_key(row) not in stored for row in rows):
            raise ArtifactError(f"{self._source}: damaged (masks of predictions are missing)")
        masks = [stored[_key(row)] for row in rows]
        pixels = [row["height"] * row["width"] for row in rows]
        if not_masks(pa.array([mask.mask_rle for mask in masks], pa.binary()), pixels).any():
            raise ArtifactError(f"{self._source}: damaged (masks are not of the images' sizes)")
        return masks


def _key(row: Mapping[str, Any]) -> tuple[int, int]:
    return row["image_id"], row["instance_id"]


def _mask(row: Mapping[str, Any]) -> RefinedMask:
    return RefinedMask(**{field.name: row[field.name] for field in fields(RefinedMask)})
