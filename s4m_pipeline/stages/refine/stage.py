"""Stage ``refine``: the segmenter redraws the teacher's masks, one encoder pass an image.

Predictions below their class's score or too small are dropped, the rest is prompted by the run's
policy, then duplicates and overlaps among an image's masks are settled; the teacher's mask, the
final one, the candidates' scores, the decision and its reason stand in one row. The masks as they
were before are kept too (table ``segmented``), also those of predictions from ``refine.min_score``
up that become no label. Structural targets of the same images come from the same pass when the
student asks for them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from s4m_pipeline.config import RunConfig, result_settings
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
REPORT_THRESHOLDS = "s4m_pipeline.labels.choose:report_thresholds"


def wants_structure(config: RunConfig) -> bool:
    """Whether the student learns from structural targets of the unlabelled images."""
    return config.student.structure_weight > 0


def wants_segmenter(config: RunConfig) -> bool:
    """Whether refinement prompts the segmenter at all."""
    return config.refine.policy != "none" or wants_structure(config)


class MaskSource(Protocol):
    """Where the masks come from that labels are chosen among."""

    worker: str
    """Makes the worker; a `WorkerFactory` as ``package.module:thing``."""

    def check(self, stage: Refine, run: Run) -> None:
        """Refuse what keeps the masks from being had, before any work (UsageError)."""

    def device(self, run: Run) -> str:
        """The device that the worker computes on."""

    def argument(self, stage: Refine, run: Run) -> RefineTask:
        """What the worker needs."""

    def end(self, stage: Refine, run: Run, outcome: Outcome) -> None:
        """Add to the outcome, and tell the user what is worth knowing."""


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
        """The run's device where the segmenter is prompted, else none but the processor."""
        return run.device if wants_segmenter(run.config) else "cpu"

    def argument(self, stage: Refine, run: Run) -> RefineTask:
        """Predictions, images, settings, and the segmenter where it is prompted."""
        if wants_segmenter(run.config):
            return stage.task(run, SegmenterSettings.of(run.config, run.device))
        return stage.task(run, None)

    def end(self, stage: Refine, run: Run, outcome: Outcome) -> None:
        """Nothing more."""


@dataclass(frozen=True)
class Refine(ShardedStage):
    """Refined labels of the unlabelled images.

    Attributes:
        masks: Where the masks come from. It is in no fingerprint: the labels are the same.
    """

    name: ClassVar[str] = "refine"
    images = UNLABELLED

    masks: MaskSource = field(default=SegmenterMasks(), kw_only=True, compare=False)

    @property
    def worker(self) -> str:
        """The worker that has its masks."""
        return self.masks.worker

    def settings(self, config: RunConfig) -> dict[str, Any]:
        """Thresholds, policy, segmenter, and the structural targets' settings when made."""
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
        """The unlabelled images, the segmenter's weights, and what thresholds are chosen by."""
        sources = {**super().sources(run), **threshold_sources(run)}
        if wants_segmenter(run.config):
            sources["segmenter"] = segmenter_digest(run)
        return sources

    def upstream(self, config: RunConfig) -> dict[str, Stage]:
        """The teacher's predictions, and what policy and thresholds are chosen by."""
        upstream = {"predictions": stage_named("pseudo-label", self.round)}
        if config.refine.policy == "auto":
            upstream["calibration"] = stage_named("calibrate")
        return upstream | threshold_upstream(config)

    def check(self, run: Run) -> None:
        """Refuse no unlabelled images, and masks that cannot be had."""
        super().check(run)
        self.masks.check(self, run)

    def device(self, run: Run) -> str:
        """The device that its masks need."""
        return self.masks.device(run)

    def bytes_per_image(self, run: Run) -> int:
        """Labels about 20 KB, and 0.7 byte a cell of each structural map."""
        return 20_000 + (int(0.7 * map_bytes(run.config)) if wants_structure(run.config) else 0)

    def row_bytes(self, run: Run) -> int:
        """A byte a cell of each structural map, when those are made."""
        return map_bytes(run.config) if wants_structure(run.config) else 1

    def argument(self, run: Run) -> RefineTask:
        """What the worker of its masks needs."""
        return self.masks.argument(self, run)

    def make(self, run: Run, folder: Path) -> Outcome:
        """Refine, and write down the thresholds and policy that were chosen."""
        outcome = super().make(run, folder)
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

    def task(self, run: Run, segmenter: SegmenterSettings | None) -> RefineTask:
        """What is refined, with a segmenter given; None where nothing is prompted."""
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
