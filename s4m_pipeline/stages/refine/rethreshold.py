"""``s4m rethreshold``: new labels from an earlier refinement, without segmenter or images.

The artifact is the one that ``refine`` would make, row for row, under the same fingerprint. Its
masks come from an earlier artifact, which has one for every prediction that was prompted: for all
from ``refine.min_score`` up. Structural targets are copied; they do not depend on thresholds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from s4m_pipeline.engine.perform import freshness
from s4m_pipeline.engine.run import Run
from s4m_pipeline.engine.stage import Outcome
from s4m_pipeline.engine.staleness import changed_inputs
from s4m_pipeline.errors import ArtifactError, UsageError
from s4m_pipeline.labels.threshold_settings import THRESHOLD_INPUTS, THRESHOLD_SETTINGS
from s4m_pipeline.late import load
from s4m_pipeline.stages.refine.refine_task import RefineTask
from s4m_pipeline.stages.refine.stage import Refine

MOST_NAMED = 8
"""Classes whose thresholds are told one by one, at most."""

REQUIRE = "s4m_pipeline.stages.refine.rethreshold_worker:require_masks"


class StoredMasks:
    """Masks that an earlier refinement stored."""

    worker = "s4m_pipeline.stages.refine.rethreshold_worker:RethresholdWorker"

    def check(self, stage: Refine, run: Run) -> None:
        """Refuse a run without an earlier refinement to take masks from."""
        if freshness(run, stage).state != "fresh":
            load(REQUIRE)(self.task(stage, run), run.called_with)

    def device(self, run: Run) -> str:
        """The CPU."""
        del run
        return "cpu"

    def task(self, stage: Refine, run: Run) -> RefineTask:
        """The task of ``refine`` without a segmenter, and with the folder of the masks."""
        source = self.artifact(stage, run)
        if fault := run.store.fault(stage.name, source.name):
            raise ArtifactError(
                f"{source}/{fault}.\nIts masks cannot be taken; prompt the segmenter for new ones "
                f"with: {run.command_for(stage)}"
            )
        return replace(stage.task_with(run, None), stored_masks=source)

    def end(self, stage: Refine, run: Run, outcome: Outcome) -> None:
        """Say how many labels there are now, and how many there were."""
        source = self.artifact(stage, run).name
        outcome.metrics["rethresholded_from"] = source
        before = run.store.manifest(stage.name, source).counts["instances"]
        labels = outcome.counts["instances"]
        thresholds = _in_a_line(outcome.metrics["thresholds"]["scores"])
        report = run.reporter.say if labels else run.reporter.warn
        report(f"{stage.name}: {labels} labels, {before} before; {thresholds}")

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
                request
                and _other_than(request["config"], THRESHOLD_SETTINGS) == settings
                and _other_than(request["inputs"], THRESHOLD_INPUTS) == inputs
                and _has_these_inputs(stage, run, fingerprint)
            ):
                return run.store.folder(name, fingerprint)
        raise UsageError(
            "no finished refinement differs from this configuration in its thresholds alone.\n"
            f"Make one with: {run.command_for(stage)}"
        )


def _in_a_line(scores: Mapping[str, float]) -> str:
    """Thresholds by class name; of many classes the range."""
    if len(scores) <= MOST_NAMED:
        return ", ".join(f"{name} {score:.2f}" for name, score in scores.items())
    low, high = (choose(scores, key=scores.__getitem__) for choose in (min, max))
    if scores[low] == scores[high]:
        return f"threshold {scores[low]:.2f} for all of {len(scores)} classes"
    ends = f"{scores[low]:.2f} ({low}) to {scores[high]:.2f} ({high})"
    return f"thresholds of {len(scores)} classes from {ends}"


def rethresholding(round: int = 1) -> Refine:
    """A round's refinement, made from the masks of an earlier one."""
    return Refine(round=round, masks=StoredMasks())


def _has_these_inputs(stage: Refine, run: Run, fingerprint: str) -> bool:
    """Whether an artifact was made from its inputs as they are now."""
    contents = run.store.manifest(stage.name, fingerprint).input_contents
    return not changed_inputs(run, stage, contents, leave_out=THRESHOLD_INPUTS)


def _other_than(values: Mapping[str, Any], names: frozenset[str]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if key not in names}
