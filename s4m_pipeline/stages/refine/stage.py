"""Stage ``refine``: the segmenter redraws the teacher's masks, one encoder pass an image.

Predictions below their class's score, or too small, are dropped. The others are prompted by the
run's policy. Then duplicates and overlaps among an image's masks are settled. A row has the
teacher's mask, the final one, the candidates' scores, the decision and its reason. The masks before
that settlement are kept as well (table ``segmented``), together with those of predictions from
``refine.min_score`` up that become no label. Structural targets of the same images come from the
same encoder pass, where the student learns from them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from s4m_pipeline.config import RunConfig
from s4m_pipeline.config_section import result_settings
from s4m_pipeline.engine.image_sources import UNLABELLED
from s4m_pipeline.engine.registry import stage_named
from s4m_pipeline.engine.run import Run
from s4m_pipeline.engine.sharded import ShardedStage
from s4m_pipeline.engine.stage import Outcome, Stage
from s4m_pipeline.labels.threshold_settings import (
    threshold_settings,
    threshold_sources,
    threshold_upstream,
)
from s4m_pipeline.late import load
from s4m_pipeline.stages.legs import refresh_numbers
from s4m_pipeline.stages.prediction_settings import PREDICTION_BYTES
from s4m_pipeline.stages.refine.refine_task import RefineTask
from s4m_pipeline.stages.refine.settings import conflict_rules, policies_by_class, refine_policy
from s4m_pipeline.stages.segmenter_settings import (
    SegmenterSettings,
    check_segmenter_section,
    segmenter_digest,
    segmenter_settings,
)
from s4m_pipeline.stages.structure_settings import TargetSettings, map_bytes

if TYPE_CHECKING:
    from s4m_pipeline.labels.thresholds import Thresholds
    from s4m_pipeline.refinement.policies import PolicyChoice

CHOOSE = "s4m_pipeline.labels.choose:choose_thresholds"
WARN_OF_NO_LABEL = "s4m_pipeline.labels.none_left:warn_of_no_label"
WARN_OF_NO_LABEL_LEFT = "s4m_pipeline.labels.none_left:warn_of_no_label_left"
REPORT_THRESHOLDS = "s4m_pipeline.labels.choose:report_thresholds"


def wants_structure(config: RunConfig) -> bool:
    """Whether the student learns from structural targets of the unlabelled images."""
    return config.student.structure_weight > 0


def wants_segmenter(config: RunConfig) -> bool:
    """Whether refinement prompts the segmenter at all."""
    return config.refine.policy != "none" or wants_structure(config)


class MaskSource(Protocol):
    """Where the masks of the labels come from."""

    worker: str
    """The worker: a `WorkerFactory` as ``package.module:thing``."""

    def check(self, stage: Refine, run: Run) -> None:
        """Refuse a run that cannot have these masks, before any work (UsageError)."""

    def device(self, run: Run) -> str:
        """The device that the worker computes on."""

    def task(self, stage: Refine, run: Run) -> RefineTask:
        """What the worker needs to know."""

    def end(self, stage: Refine, run: Run, outcome: Outcome) -> None:
        """Complete the outcome, and report on it."""


class SegmenterMasks:
    """Masks that the segmenter draws."""

    worker = "s4m_pipeline.stages.refine.worker:RefineWorker"

    def check(self, stage: Refine, run: Run) -> None:
        """Refuse a policy or a segmenter that cannot be built."""
        if run.config.refine.policy != "none":
            refine_policy(run.config.refine)
        if wants_segmenter(run.config):
            check_segmenter_section(run.config)

    def device(self, run: Run) -> str:
        """The run's device where the segmenter is prompted, else the CPU."""
        return run.device if wants_segmenter(run.config) else "cpu"

    def task(self, stage: Refine, run: Run) -> RefineTask:
        """Predictions, images, settings, and the segmenter where it is prompted."""
        if wants_segmenter(run.config):
            return stage.task_with(run, SegmenterSettings.of(run.config, run.device))
        return stage.task_with(run, None)

    def end(self, stage: Refine, run: Run, outcome: Outcome) -> None:
        """Nothing to add."""


@dataclass(frozen=True)
class Refine(ShardedStage):
    """Refined labels of the unlabelled images.

    Attributes:
        masks: Where the masks come from. It is in no fingerprint, since the labels are the same.
    """

    name: ClassVar[str] = "refine"
    images = UNLABELLED

    masks: MaskSource = field(default=SegmenterMasks(), kw_only=True, compare=False)

    @classmethod
    def of_round(cls, config: RunConfig, number: int) -> Sequence[Stage]:
        """The round's first labels, and those of its refreshes."""
        return [cls(round=number, refresh=refresh) for refresh in (0, *refresh_numbers(config))]

    @property
    def worker(self) -> str:
        """The worker of its masks."""
        return self.masks.worker

    def settings(self, config: RunConfig) -> dict[str, Any]:
        """Thresholds, policy, segmenter, and structural targets where they are made."""
        settings: dict[str, Any] = {
            "refine": result_settings(config.refine),
            **threshold_settings(config),
            "min_area": config.pseudo_label.min_area,
        }
        if wants_segmenter(config):
            settings["segmenter"] = segmenter_settings(config)
        if wants_structure(config):
            settings["structure"] = result_settings(config.structure)
            settings["seed"] = config.seed
        return settings

    def sources(self, run: Run) -> dict[str, str]:
        """The unlabelled images, the segmenter's weights, and what the thresholds depend on."""
        sources = {**super().sources(run), **threshold_sources(run)}
        if wants_segmenter(run.config):
            sources["segmenter"] = segmenter_digest(run)
        return sources

    def upstream(self, config: RunConfig) -> dict[str, Stage]:
        """The teacher's predictions, and the artifacts that policy and thresholds depend on."""
        upstream = {"predictions": stage_named("pseudo-label", self.round, refresh=self.refresh)}
        if config.refine.policy == "auto":
            upstream["calibration"] = stage_named("calibrate")
        return upstream | threshold_upstream(config)

    def check(self, run: Run) -> None:
        """Refuse a run without unlabelled images, or one that cannot have its masks."""
        super().check(run)
        self.masks.check(self, run)

    def device(self, run: Run) -> str:
        """The device that its masks need."""
        return self.masks.device(run)

    def bytes_per_image(self, run: Run) -> int:
        """Labels about 20 KB, and 0.7 byte a cell of each structural map."""
        maps = map_bytes(run.config) if wants_structure(run.config) else 0
        return PREDICTION_BYTES + int(0.7 * maps)

    def row_bytes(self, run: Run) -> int:
        """A byte a cell of each structural map, where these are made."""
        return map_bytes(run.config) if wants_structure(run.config) else 1

    def task(self, run: Run) -> RefineTask:
        """What the worker of its masks needs to know."""
        return self.masks.task(self, run)

    def make(self, run: Run, folder: Path) -> Outcome:
        """Refine, and add the chosen thresholds and policy to the metrics."""
        upstream = self.upstream(run.config)["predictions"]
        predicted = run.store.manifest(upstream.name, run.fingerprint(upstream)).counts
        load(WARN_OF_NO_LABEL)(run, run.folder(upstream), predicted, self)
        outcome = super().make(run, folder)
        if not outcome.counts["instances"]:
            load(WARN_OF_NO_LABEL_LEFT)(run, folder, predicted, self)
        outcome.metrics["thresholds"] = load(REPORT_THRESHOLDS)(run, self.thresholds(run))
        if run.config.refine.policy == "auto":
            choice = self._calibration(run)
            outcome.metrics["policy"] = {name: choice[name] for name in ("best", "policy", "off")}
        self.masks.end(self, run, outcome)
        return outcome

    def thresholds(self, run: Run) -> Thresholds:
        """The score that a label of each class must be above."""
        predictions = self.upstream(run.config)["predictions"]
        manifest = run.store.manifest(predictions.name, run.fingerprint(predictions))
        thresholds: Thresholds = load(CHOOSE)(
            run, run.require(predictions), manifest.counts["images"]
        )
        return thresholds

    def policy(self, run: Run) -> PolicyChoice | None:
        """How instances are refined; None keeps every teacher's mask."""
        section = run.config.refine
        if section.policy == "none":
            return None
        if section.policy != "auto":
            return refine_policy(section)
        run.require(stage_named("calibrate"))
        ids = [int(category["id"]) for category in self.categories(run)]
        return policies_by_class(self._calibration(run), ids)

    def _calibration(self, run: Run) -> dict[str, Any]:
        """What the run's calibration chose."""
        calibration = stage_named("calibrate")
        return run.store.manifest(calibration.name, run.fingerprint(calibration)).metrics

    def task_with(self, run: Run, segmenter: SegmenterSettings | None) -> RefineTask:
        """The task with a segmenter, or with None where nothing is prompted."""
        config = run.config
        return RefineTask(
            predictions=run.require(self.upstream(config)["predictions"]),
            records={record.id: record for record in self.records(run)},
            segmenter=segmenter,
            policy=self.policy(run),
            rules=conflict_rules(config.refine),
            scores=self.thresholds(run).scores,
            min_score=config.refine.min_score,
            min_area=config.pseudo_label.min_area,
            targets=TargetSettings.of(config) if wants_structure(config) else None,
        )
