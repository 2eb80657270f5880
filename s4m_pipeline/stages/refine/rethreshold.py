"""``s4m refine --rethreshold``: new labels from an earlier refinement, without segmenter or images.

The artifact is the one that ``refine`` would make, row for row, under the same fingerprint. The
masks are those that an earlier artifact keeps of every prediction that was prompted, which are all
from ``refine.min_score`` up. Structural targets are copied: they do not depend on thresholds.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from s4m_pipeline.artifacts.shards import Shard, ShardResult
from s4m_pipeline.artifacts.tables import read_rows
from s4m_pipeline.devices.placement import Place
from s4m_pipeline.engine.perform import freshness
from s4m_pipeline.engine.run import Run
from s4m_pipeline.engine.stage import Outcome
from s4m_pipeline.errors import UsageError
from s4m_pipeline.execution.base import Advance, ShardWorker, WorkerFactory
from s4m_pipeline.labels.rule import drop_cause
from s4m_pipeline.refinement.instances import RefinedMask
from s4m_pipeline.stages.refine.stage import Refine
from s4m_pipeline.stages.refine.task import (
    RefineTask,
    decided_counts,
    decided_rows,
    read_images,
)

THRESHOLD_SETTINGS = frozenset({"score", "thresholds", "precision", "min_area"})
THRESHOLD_INPUTS = frozenset({"labelled", "cross-fit"})
"""What two refinements may differ in for one to be made of the other."""

_KEY = ("image_id", "instance_id")
_DECISIVE = (*_KEY, "category_id", "score", "soft_mask")
"""What tells whether a prediction is to become a label."""


class Rethreshold(Refine):
    """A refine artifact made of an earlier one."""

    def check(self, run: Run) -> None:
        """Refuse a run without an earlier refinement to take masks from."""
        run.images.load_unlabelled_set()
        if freshness(run, self).state != "fresh":
            task = self.argument(run)
            require_masks(task, task.source, run.called_with)

    def source(self, run: Run) -> Path:
        """The newest finished artifact that differs in its thresholds alone.

        Raises:
            UsageError: There is none.
        """
        settings = _other_than(self.settings(run.config), THRESHOLD_SETTINGS)
        inputs = _other_than(self.inputs(run), THRESHOLD_INPUTS)
        for stage, mark, done in reversed(run.store.artifacts()):
            if stage != self.name or not done or mark == run.fingerprint(self):
                continue
            found = run.store.requested(stage, mark)
            if (
                _other_than(found["config"], THRESHOLD_SETTINGS) == settings
                and _other_than(found["inputs"], THRESHOLD_INPUTS) == inputs
                and self._has_these_inputs(run, mark)
            ):
                return run.store.folder(stage, mark)
        raise UsageError(
            "no finished refinement differs from this configuration in its thresholds alone.\n"
            f"Make one with: s4m {self.command} {run.called_with}"
        )

    def _has_these_inputs(self, run: Run, mark: str) -> bool:
        """Whether an artifact was made of its inputs as they are, not as they once were."""
        made_of = run.store.manifest(self.name, mark).input_contents
        for name, above in self.upstream(run.config).items():
            if name in THRESHOLD_INPUTS:
                continue
            if made_of.get(name) != run.store.manifest(above.name, run.fingerprint(above)).content:
                return False
        return True

    def factory(self) -> WorkerFactory:
        """Makes a ``_Worker``."""
        return _make_worker

    def device(self, run: Run) -> str:
        """No device is needed beside the processor."""
        del run
        return "cpu"

    def argument(self, run: Run) -> _Task:
        """What ``refine`` would need but for the segmenter, and where the masks are."""
        task = self.task(run, None)
        known = {field.name: getattr(task, field.name) for field in fields(task)}
        return _Task(**known, source=self.source(run))

    def make(self, run: Run, folder: Path) -> Outcome:
        """Choose labels among the masks that are there."""
        task = self.argument(run)
        made = super().make(run, folder)
        made.metrics["rethresholded_from"] = task.source.name
        before = run.store.manifest(self.name, task.source.name).counts["instances"]
        scores = ", ".join(f"{k} {v:.2f}" for k, v in made.metrics["thresholds"]["scores"].items())
        tell = run.reporter.say if made.counts["instances"] else run.reporter.warn
        tell(f"{self.name}: {made.counts['instances']} labels, {before} before; {scores}")
        return made


def require_masks(task: RefineTask, source: Path, called_with: str) -> None:
    """Refuse thresholds that ask for predictions that were not refined.

    Raises:
        UsageError: With the number of instances without a mask.
    """
    if task.policy is None or min(task.scores.values()) >= task.min_score:
        return
    missing, ids = 0, sorted(task.records)
    for start in range(0, len(ids), 1024):
        part = ids[start : start + 1024]
        stored = {_key(row) for row in read_rows(source, "segmented", part, _KEY)}
        for row in read_rows(task.predictions, "predictions", part, _DECISIVE):
            wanted = not drop_cause(row, task.scores[row["category_id"]], task.min_area)
            missing += wanted and _key(row) not in stored
    if missing:
        low = min(task.scores.values())
        raise UsageError(
            f"thresholds as low as {low:g} make labels of {missing} instances that were not "
            f"refined: refine.min_score was {task.min_score:g}.\n"
            f"Stay above it, or refine them with: s4m refine {called_with}"
        )


@dataclass(frozen=True, slots=True)
class _Task(RefineTask):
    source: Path


class _Worker(ShardWorker):
    def __init__(self, task: _Task) -> None:
        self._task = task

    def process(self, shard: Shard, advance: Advance) -> ShardResult:
        """Choose labels of a shard's images among the masks that are there."""
        start = time.perf_counter()
        aside = read_rows(self._task.source, "quarantine", shard.image_ids)
        left = shard.without(row["image_id"] for row in aside)
        stored = read_rows(self._task.source, "segmented", left.image_ids)
        masks = {_key(row): _mask(row) for row in stored}
        tables: dict[str, list[dict[str, Any]]] = {"refined": [], "quarantine": aside}
        if self._task.policy is not None:
            tables["segmented"] = []
        if self._task.targets is not None:
            tables["structure"] = read_rows(self._task.source, "structure", left.image_ids)
        for image in read_images(self._task, left).values():
            found = None if self._task.policy is None else [masks[_key(r)] for r in image.rows]
            for name, rows in decided_rows(self._task, image, found).items():
                tables[name] += rows
        advance(len(shard.image_ids))
        counts = decided_counts(tables) | {"images": len(left.image_ids)}
        return ShardResult(tables, counts, {"rethreshold": time.perf_counter() - start})


def _make_worker(task: _Task, place: Place) -> _Worker:
    del place  # no device is used
    return _Worker(task)


def _key(row: Mapping[str, Any]) -> tuple[int, int]:
    return row["image_id"], row["instance_id"]


def _mask(row: Mapping[str, Any]) -> RefinedMask:
    return RefinedMask(**{field.name: row[field.name] for field in fields(RefinedMask)})


def _other_than(values: Mapping[str, Any], names: frozenset[str]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if key not in names}
