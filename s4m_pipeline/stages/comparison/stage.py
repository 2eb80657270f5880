"""Stage ``compare-labels``: what changed in the labels of a refresh, and whether they are taken.

A refresh whose labels are worse on the validation images than those that were taken last, or that
has less than half as many, is not taken: the training goes on with the ones before.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

from s4m_pipeline.config import RunConfig
from s4m_pipeline.engine.registry import stage_named
from s4m_pipeline.engine.run import Run
from s4m_pipeline.engine.stage import Outcome, Plan, Stage
from s4m_pipeline.errors import UsageError
from s4m_pipeline.late import load
from s4m_pipeline.stages.legs import check_refresh, refresh_numbers

COMPARE = "s4m_pipeline.stages.comparison.compare:compare_labels"
RULE = 1
"""Number of the rule by which labels are compared and taken; every change of it raises it."""


@dataclass(frozen=True)
class CompareLabels(Stage):
    """The labels of a refresh beside those that were taken last."""

    name: ClassVar[str] = "compare-labels"

    @classmethod
    def of_round(cls, config: RunConfig, number: int) -> Sequence[Stage]:
        """One for each refresh."""
        return [cls(round=number, refresh=refresh) for refresh in refresh_numbers(config)]

    def settings(self, config: RunConfig) -> dict[str, Any]:
        """The rule; all else is in the inputs."""
        del config
        return {"rule": RULE}

    def sources(self, run: Run) -> dict[str, str]:
        """Only artifacts are read."""
        del run
        return {}

    def upstream(self, config: RunConfig) -> dict[str, Stage]:
        """The labels, those before, and what the models that made them do on validation images."""
        check_refresh(config, self.refresh)
        upstream = {"refined": stage_named("refine", self.round, refresh=self.refresh)}
        if self.refresh > 1:
            upstream["compared"] = replace(self, refresh=self.refresh - 1)
        else:
            upstream["refined-before"] = stage_named("refine", self.round)
        if config.data.validation is not None:
            upstream["held-out"] = stage_named("held-out", self.round, refresh=self.refresh)
            evaluation = stage_named("evaluate", self.round, of="student", refresh=self.refresh)
            upstream["evaluation"] = evaluation
            if self.refresh == 1:
                upstream["held-out-before"] = stage_named("held-out", self.round)
        return upstream

    def check(self, run: Run) -> None:
        """Refuse what is no refresh."""
        if not self.refresh:
            raise UsageError(
                "compare-labels compares the labels of a refresh with those before: give --refresh"
            )
        check_refresh(run.config, self.refresh)

    def device(self, run: Run) -> str:
        """The CPU."""
        del run
        return "cpu"

    def plan(self, run: Run) -> Plan:
        """The images whose labels are compared."""
        return Plan(images=len(run.images.unlabelled.images), disk_bytes=10_000)

    def make(self, run: Run, folder: Path) -> Outcome:
        """Compare, say what changed, and decide."""
        outcome: Outcome = load(COMPARE)(run, self, folder)
        return outcome
