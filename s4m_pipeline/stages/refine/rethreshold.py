"""``s4m rethreshold``: new labels from an earlier refinement, without segmenter or images.

The artifact is the one that ``refine`` would make, row for row, under the same fingerprint. The
masks are those that an earlier artifact keeps of every prediction that was prompted, which are all
from ``refine.min_score`` up. Structural targets are copied: they do not depend on thresholds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from s4m_pipeline.engine.perform import freshness
from s4m_pipeline.engine.run import Run
from s4m_pipeline.engine.stage import Outcome
from s4m_pipeline.errors import UsageError
from s4m_pipeline.late import load
from s4m_pipeline.stages.refine.refine_task import RefineTask
from s4m_pipeline.stages.refine.stage import Refine

THRESHOLD_SETTINGS = frozenset({"score", "thresholds", "precision", "min_area"})
THRESHOLD_INPUTS = frozenset({"labelled", "cross-fit"})
"""What two refinements may differ in for one to be made of the other."""

REQUIRE = "s4m_pipeline.stages.refine.rethreshold_worker:require_masks"


class StoredMasks:
    """Masks that an earlier refinement keeps."""

    worker = "s4m_pipeline.stages.refine.rethreshold_worker:RethresholdWorker"

    def check(self, stage: Refine, run: Run) -> None:
        """Refuse a run without an earlier refinement to take masks from."""
        if freshness(run, stage).state != "fresh":
            load(REQUIRE)(self.argument(stage, run), run.called_with)

    def device(self, run: Run) -> str:
        """No device is needed beside the processor."""
        del run
        return "cpu"

    def argument(self, stage: Refine, run: Run) -> RefineTask:
        """What ``refine`` would need but for the segmenter, and where the masks are."""
        return replace(stage.task(run, None), stored_masks=self.artifact(stage, run))

    def end(self, stage: Refine, run: Run, outcome: Outcome) -> None:
        """Say how many labels there are now, and how many there were."""
        source = self.artifact(stage, run).name
        outcome.metrics["rethresholded_from"] = source
        before = run.store.manifest(stage.name, source).counts["instances"]
        scores = outcome.metrics["thresholds"]["scores"].items()
        told = ", ".join(f"{name} {score:.2f}" for name, score in scores)
        tell = run.reporter.say if outcome.counts["instances"] else run.reporter.warn
        tell(f"{stage.name}: {outcome.counts['instances']} labels, {before} before; {told}")

    def artifact(self, stage: Refine, run: Run) -> Path:
        """The newest finished artifact that differs in its thresholds alone.

        Raises:
            UsageError: There is none.
        """
        settings = _other_than(stage.settings(run.config), THRESHOLD_SETTINGS)
        inputs = _other_than(stage.inputs(run), THRESHOLD_INPUTS)
        for name, fingerprint, done in reversed(run.store.artifacts()):
            if name != stage.name or not done or fingerprint == run.fingerprint(stage):
                continue
            request = run.store.requested(name, fingerprint)
            if (
                _other_than(request["config"], THRESHOLD_SETTINGS) == settings
                and _other_than(request["inputs"], THRESHOLD_INPUTS) == inputs
                and _has_these_inputs(stage, run, fingerprint)
            ):
                return run.store.folder(name, fingerprint)
        raise UsageError(
            "no finished refinement differs from this configuration in its thresholds alone.\n"
            f"Make one with: s4m {stage.command} {run.called_with}"
        )


def rethresholding(round: int = 1) -> Refine:
    """A round's refinement, made of an earlier one's masks."""
    return Refine(round=round, masks=StoredMasks())


def _has_these_inputs(stage: Refine, run: Run, fingerprint: str) -> bool:
    """Whether an artifact was made of its inputs as they are, not as they once were."""
    contents = run.store.manifest(stage.name, fingerprint).input_contents
    return all(
        contents.get(name) == run.store.manifest(upstream.name, run.fingerprint(upstream)).content
        for name, upstream in stage.upstream(run.config).items()
        if name not in THRESHOLD_INPUTS
    )


def _other_than(values: Mapping[str, Any], names: frozenset[str]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if key not in names}
