"""Stage ``calibrate``: refinement measured on the labelled images, policy by policy.

Predictions are those of ``cross-fit``, by teachers that did not see the images. Those from
``refine.min_score`` up are refined by each of a list of policies, from one encoder pass an image;
of those whose mask overlaps a true instance of their class, the IoU with it is measured before and
after. The policy whose gain is surest (the highest lower end of its 95 % interval) is what
``refine.policy: auto`` takes; it is left off for classes and sizes where it makes masks worse.
Too few instances choose none: ``auto`` then takes ``points``, whatever policy was configured.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from s4m_pipeline.artifacts.shards import Shard, ShardResult
from s4m_pipeline.artifacts.tables import read_rows
from s4m_pipeline.config import RunConfig
from s4m_pipeline.data.image_set import ImageRecord, Instance
from s4m_pipeline.devices.placement import Place, settle
from s4m_pipeline.engine.reading import in_batches, load_images
from s4m_pipeline.engine.run import Run
from s4m_pipeline.engine.sharded import ShardedStage
from s4m_pipeline.engine.stage import Outcome, Stage, label_categories
from s4m_pipeline.errors import UsageError
from s4m_pipeline.execution.base import Advance, ShardWorker, WorkerFactory
from s4m_pipeline.stages.calibration.cross_fit import CrossFit
from s4m_pipeline.stages.calibration.policies import calibration_policies
from s4m_pipeline.stages.refine.rows import teacher_instance
from s4m_pipeline.stages.refine.settings import settings_of_policy
from s4m_pipeline.stages.segmenter_settings import (
    SegmenterSettings,
    check_segmenter_section,
    segmenter_digest,
    segmenter_settings,
)

if TYPE_CHECKING:
    from s4m_pipeline.refinement.policies import RefinePolicy
    from s4m_pipeline.segmenter.base import Embeddings
    from s4m_pipeline.stages.calibration.pairs import Pair


RULE = 2
"""Number of the rule by which a calibration chooses: one more with every change of it."""


class Calibrate(ShardedStage):
    """What each policy brings on the labelled images."""

    name: ClassVar[str] = "calibrate"

    @property
    def command(self) -> str:
        """Calibration is an option of ``refine``."""
        return "refine --calibrate"

    @property
    def made_alone(self) -> bool:
        """The cross-fitted teachers are trained with it."""
        return False

    def settings(self, config: RunConfig) -> dict[str, Any]:
        """The rule, the policies, what is measured, the segmenter and the intervals' seed."""
        policies = calibration_policies(config)
        return {
            "rule": RULE,
            "seed": config.seed,
            "min_score": config.refine.min_score,
            "policies": {name: settings_of_policy(policy) for name, policy in policies.items()},
            "segmenter": segmenter_settings(config),
        }

    def sources(self, run: Run) -> dict[str, str]:
        """The labelled images and the segmenter's weights."""
        return {"labelled": run.images.labelled_digest(), "segmenter": segmenter_digest(run)}

    def upstream(self, config: RunConfig) -> dict[str, Stage]:
        """The cross-fitted predictions."""
        return {"predictions": CrossFit()}

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
        """Some hundred measurements of a few bytes."""
        return 2_000

    def factory(self) -> WorkerFactory:
        """Makes a ``_Worker``."""
        return _make_worker

    def argument(self, run: Run) -> _Task:
        """Predictions, images, truth and policies."""
        return _Task(
            predictions=run.require(CrossFit()),
            records={record.id: record for record in self.records(run)},
            truth=run.images.labelled.instances,
            segmenter=SegmenterSettings.of(run.config, run.device),
            policies=calibration_policies(run.config),
            min_score=run.config.refine.min_score,
        )

    def make(self, run: Run, folder: Path) -> Outcome:
        """Measure, then choose."""
        from s4m_pipeline.stages.calibration.choice import choice_of, measured

        made = super().make(run, folder)
        found = measured(folder)
        if not len(found.before):
            raise UsageError(
                "calibration found no prediction to measure: none from refine.min_score "
                f"{run.config.refine.min_score:g} up overlaps a labelled instance of its class.\n"
                "Train for longer (calibration.iterations) or lower refine.min_score."
            )
        categories = [category.id for category in run.images.labelled.categories]
        made.metrics |= choice_of(found, categories, run.config)
        if not made.metrics["chosen"]:
            run.reporter.warn(
                f"{made.counts['instances']} instances could be measured, too few to choose by: "
                f"keep the policy that you have; refine.policy=auto is {made.metrics['best']!r}"
            )
        return made


@dataclass(frozen=True, slots=True)
class _Task:
    predictions: Path
    records: Mapping[int, ImageRecord]
    truth: Mapping[int, Sequence[Instance]]
    segmenter: SegmenterSettings
    policies: Mapping[str, RefinePolicy]
    min_score: float


@dataclass(slots=True)
class _Measurable:
    """An image's predictions that are refined, and the pairs among them that are measured."""

    rows: list[dict[str, Any]]
    pairs: list[Pair]


class _Worker(ShardWorker):
    def __init__(self, task: _Task, place: Place) -> None:
        self._task = task
        self._segmenter = task.segmenter.build(settle(task.segmenter.device, place), task.records)

    def process(self, shard: Shard, advance: Advance) -> ShardResult:
        """Measure a shard's predictions."""
        start = time.perf_counter()
        aside = read_rows(self._task.predictions, "quarantine", shard.image_ids)
        shard = shard.without(row["image_id"] for row in aside)
        advance(len(aside))
        pairs = self._pairs(shard)
        records = [self._task.records[image_id] for image_id in pairs]
        done = len(shard.image_ids) - len(records)  # nothing to measure in these
        advance(done)
        rows: list[dict[str, Any]] = []
        bad: list[dict[str, Any]] = []
        images = load_images(records, Calibrate.name, bad)
        for batch in in_batches(images, self._task.segmenter.batch_size):
            embeddings = self._segmenter.encode([image for _, image in batch])
            rows += self._measure(embeddings, [pairs[record.id] for record, _ in batch])
            advance(len(batch))
            done += len(batch)
        advance(len(bad))
        rows.sort(key=lambda row: (row["image_id"], row["instance_id"]))  # policies in their order
        return ShardResult(
            {"calibration": rows, "quarantine": [*aside, *bad]},
            {
                "images": done,
                "instances": len(rows) // len(self._task.policies),
                "quarantined": len(aside) + len(bad),
            },
            {"calibrate": time.perf_counter() - start},
            warnings=list(self._segmenter.warnings),
        )

    def _pairs(self, shard: Shard) -> dict[int, _Measurable]:
        """The predictions to refine, by image; images with none to measure are left out."""
        from s4m_pipeline.stages.calibration.pairs import overlapping

        by_image: dict[int, list[dict[str, Any]]] = {}
        for row in read_rows(self._task.predictions, "predictions", shard.image_ids):
            if row["score"] >= self._task.min_score:
                by_image.setdefault(row["image_id"], []).append(row)
        truth = self._task.truth
        found = {
            key: _Measurable(rows, overlapping(rows, truth.get(key, [])))
            for key, rows in by_image.items()
        }
        return {key: image for key, image in found.items() if image.pairs}

    def _measure(
        self, embeddings: Embeddings, images: Sequence[_Measurable]
    ) -> list[dict[str, Any]]:
        """Rows of ``calibration`` of a batch of encoded images."""
        from s4m_pipeline.refinement.ask import refine_images
        from s4m_pipeline.refinement.rle import iou

        rows = []
        instances = [[teacher_instance(row) for row in image.rows] for image in images]
        for name, policy in self._task.policies.items():
            for image, masks in zip(
                images, refine_images(self._segmenter, embeddings, instances, policy), strict=True
            ):
                of_row = dict(zip((row["instance_id"] for row in image.rows), masks, strict=True))
                for pair in image.pairs:
                    mask = of_row[pair.row["instance_id"]]
                    size = (pair.row["height"], pair.row["width"])
                    after = iou(mask.mask_rle, pair.truth.rle, *size)
                    rows.append(_row(pair, name, mask.decision, after))
        return rows


def _row(pair: Pair, policy: str, decision: str, after: float) -> dict[str, Any]:
    names = ("image_id", "instance_id", "category_id", "score", "area")
    return {name: pair.row[name] for name in names} | {
        "policy": policy,
        "decision": decision,
        "iou_before": pair.iou,
        "iou_after": after,
    }


def _make_worker(task: _Task, place: Place) -> _Worker:
    return _Worker(task, place)
