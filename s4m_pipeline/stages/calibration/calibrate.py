"""Stage ``calibrate``: refinement measured on the labelled images, policy by policy.

Predictions come from ``cross-fit``: by teachers that did not see the images. Those from
``refine.min_score`` up are refined by each of a list of policies, from one encoder pass an image.
Where a prediction's mask overlaps a true instance of its class, the IoU with it is measured before
and after. ``refine.policy: auto`` takes the policy with the surest gain (the highest lower end of
its 95 % interval), except for classes and sizes where it makes masks worse. With too few instances
no policy is chosen, and ``auto`` takes ``points``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from s4m_pipeline.config import RunConfig
from s4m_pipeline.data.image_set import ImageRecord, Instance
from s4m_pipeline.engine.image_sources import LABELLED
from s4m_pipeline.engine.registry import stage_named
from s4m_pipeline.engine.run import Run
from s4m_pipeline.engine.sharded import ShardedStage
from s4m_pipeline.engine.stage import Outcome, Stage
from s4m_pipeline.errors import UsageError
from s4m_pipeline.late import load
from s4m_pipeline.stages.calibration.policies import calibration_policies
from s4m_pipeline.stages.refine.settings import settings_of_policy
from s4m_pipeline.stages.segmenter_settings import (
    SegmenterSettings,
    check_segmenter_section,
    segmenter_digest,
    segmenter_settings,
)

if TYPE_CHECKING:
    from s4m_pipeline.refinement.policies import RefinePolicy

RULE = 2
"""Number of the rule by which a calibration chooses; every change of the rule raises it."""
CHOICE_OF = "s4m_pipeline.stages.calibration.choice:choice_of_artifact"


@dataclass(frozen=True)
class Calibrate(ShardedStage):
    """What each policy gains on the labelled images."""

    name: ClassVar[str] = "calibrate"
    images = LABELLED
    worker = "s4m_pipeline.stages.calibration.calibrate_worker:CalibrateWorker"

    @classmethod
    def of_round(cls, config: RunConfig, number: int) -> Sequence[Stage]:
        """Once, where it chooses the policy."""
        return [cls()] if config.refine.policy == "auto" and number == 1 else []

    @property
    def made_alone(self) -> bool:
        """No: the cross-fitted teachers are trained with it."""
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
        return {**super().sources(run), "segmenter": segmenter_digest(run)}

    def upstream(self, config: RunConfig) -> dict[str, Stage]:
        """The cross-fitted predictions."""
        return {"predictions": stage_named("cross-fit")}

    def check(self, run: Run) -> None:
        """Refuse a segmenter that cannot be built, and labelled images that cannot be used."""
        check_segmenter_section(run.config)
        super().check(run)

    def bytes_per_image(self, run: Run) -> int:
        """Some hundred measurements of a few bytes."""
        return 2_000

    def task(self, run: Run) -> CalibrateTask:
        """Predictions, images, truth and policies."""
        return CalibrateTask(
            predictions=run.require(stage_named("cross-fit")),
            records={record.id: record for record in self.records(run)},
            truth=run.images.labelled.instances,
            segmenter=SegmenterSettings.of(run.config, run.device),
            policies=calibration_policies(run.config),
            min_score=run.config.refine.min_score,
        )

    def make(self, run: Run, folder: Path) -> Outcome:
        """Measure, then choose."""
        outcome = super().make(run, folder)
        categories = [category.id for category in run.images.labelled.categories]
        choice = load(CHOICE_OF)(folder, categories, run.config)
        if choice is None:
            raise UsageError(
                "calibration found no prediction to measure: none from refine.min_score "
                f"{run.config.refine.min_score:g} up overlaps a labelled instance of its class.\n"
                "Train for longer (calibration.iterations) or lower refine.min_score."
            )
        outcome.metrics |= choice
        if not choice["chosen"]:
            run.reporter.warn(
                f"{outcome.counts['instances']} instances could be measured, too few to choose by: "
                f"keep the policy that you have; refine.policy=auto is {choice['best']!r}"
            )
        return outcome


@dataclass(frozen=True, slots=True)
class CalibrateTask:
    """What a worker refines and measures.

    Attributes:
        predictions: Folder of the cross-fitted predictions.
        records: The labelled images by id.
        truth: Their instances by image id.
        segmenter: What the segmenter is built with.
        policies: The policies that are compared, by name.
        min_score: The score from which predictions are measured.
    """

    predictions: Path
    records: Mapping[int, ImageRecord]
    truth: Mapping[int, Sequence[Instance]]
    segmenter: SegmenterSettings
    policies: Mapping[str, RefinePolicy]
    min_score: float
