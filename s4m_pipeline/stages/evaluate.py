"""Stage ``evaluate``: average precision of a checkpoint artifact on an image set with masks."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from s4m_pipeline.artifacts.training_files import CHECKPOINT
from s4m_pipeline.config import LabelledSet, RunConfig
from s4m_pipeline.data.image_set import ImageSet, check_same_categories
from s4m_pipeline.engine.image_sets import read_labelled
from s4m_pipeline.engine.registry import training_named, training_of_round
from s4m_pipeline.engine.run import Run
from s4m_pipeline.engine.stage import Outcome, Plan, Stage
from s4m_pipeline.errors import UsageError
from s4m_pipeline.late import load
from s4m_pipeline.stages.detections import has_stored_detections

WORK = "s4m_pipeline.stages.detect_and_score:evaluate"
CHECK_METRIC = "s4m_pipeline.metrics.scoring:check_metric"
RULE = 2
"""Number of the rule by which instances are counted: one more with every change of it."""


@dataclass(frozen=True)
class Evaluate(Stage):
    """AP of one checkpoint on one image set.

    Attributes:
        of: ``student`` (of the stage's round), ``teacher``, or the path of a training artifact's
            folder or checkpoint.
        split: ``validation`` or ``labelled``; or ``file`` with ``images`` and ``annotations``.
        averaged: Take the averaged weights (EMA) where the checkpoint has them.
        source: The image set of ``split`` ``file``.
        metric: ``coco``, ``cityscapes``, ``both``, or ``auto``: both for Cityscapes' classes.
        reuse: Take the detections of another evaluation that differs in its metric only.
    """

    name: ClassVar[str] = "evaluate"

    of: str = "student"
    split: str = "validation"
    averaged: bool = True
    source: LabelledSet | None = None
    metric: str = "auto"
    reuse: bool = True

    @classmethod
    def of_round(cls, config: RunConfig, number: int) -> Sequence[Stage]:
        """The round's student, after the first round's teacher; none without validation images."""
        if config.data.validation is None:
            return []
        return [*([cls("teacher")] if number == 1 else []), cls("student", round=number)]

    @property
    def model(self) -> str:
        """What is evaluated, as ``--of`` names it: ``student-2`` is the second round's student."""
        return self.of if self.of != "student" or self.round == 1 else f"{self.of}-{self.round}"

    @property
    def label(self) -> str:
        """What is evaluated: ``student``, ``student-last`` for its last weights, and so on."""
        return Path(self.model).name if self.averaged else f"{Path(self.model).name}-last"

    @property
    def title(self) -> str:
        """What is evaluated, on what and by which figures, where these are not the usual ones."""
        where = "" if self.split == "validation" else f" on {self.split}"
        figures = "" if self.metric == "auto" else f" ({self.metric})"
        return f"{self.name} {self.label}{where}{figures}"

    @property
    def command(self) -> str:
        """The options that tell this evaluation from the others."""
        words = [self.name, "--of", self.model]
        if self.source is not None:
            words += ["--images", str(self.source.images)]
            words += ["--annotations", str(self.source.annotations)]
        elif self.split != "validation":
            words += ["--split", self.split]
        words += [] if self.averaged else ["--no-averaged"]
        words += [] if self.metric == "auto" else ["--metric", self.metric]
        return shlex.join(words)

    @property
    def made_alone(self) -> bool:
        """It has a command of its own in every round."""
        return True

    def settings(self, config: RunConfig) -> dict[str, Any]:
        """What is evaluated, and the rule by which it is counted."""
        return {
            "rule": RULE,
            "of": Path(self.model).name,
            "split": self.split,
            "averaged": self.averaged,
            "metric": self.metric,
        }

    def sources(self, run: Run) -> dict[str, str]:
        """The image set, and a checkpoint given by path."""
        sources = {self.split: run.images.digest(self.section(run.config))}
        if not self.upstream(run.config):
            sources["checkpoint"] = run.store.digests.file(self._given())
        return sources

    def upstream(self, config: RunConfig) -> dict[str, Stage]:
        """The training, when it is this run's."""
        if self.of == "teacher":
            return {self.model: training_of_round(0)}
        return {self.model: training_of_round(self.round)} if self.of == "student" else {}

    def section(self, config: RunConfig) -> LabelledSet:
        """The image set that it is evaluated on (UsageError where there is none)."""
        if self.split == "labelled":
            return config.data.labelled
        section = config.data.validation if self.split == "validation" else self.source
        if section is None:
            raise UsageError(
                f"nothing to evaluate on: data.{self.split} is missing; "
                "give data.validation, or --images with --annotations"
            )
        return section

    def _given(self) -> Path:
        path = Path(self.of)
        if path.is_dir():
            if not (path / CHECKPOINT).is_file():
                raise UsageError(f"{self.of} holds no {CHECKPOINT}: no finished training's folder")
            return path / CHECKPOINT
        if not path.is_file():
            raise UsageError(
                f"there is no '{self.of}' to evaluate: --of is student, teacher, student-2 (a "
                "round's), all,\nor the path of a checkpoint or of a training artifact's folder"
            )
        return path

    def checkpoint(self, run: Run) -> Path:
        """The file that is evaluated (UsageError where it is not there)."""
        for training in self.upstream(run.config).values():
            return run.require(training) / CHECKPOINT
        return self._given()

    def truth(self, run: Run) -> ImageSet:
        """The images that it is evaluated on, with their instances."""
        truth = read_labelled(self.section(run.config), f"data.{self.split}")
        if self.upstream(run.config):
            check_same_categories(
                run.images.labelled.categories,
                truth.categories,
                "data.labelled",
                f"data.{self.split}",
            )
        return truth

    def check(self, run: Run) -> None:
        """Refuse a metric that is none."""
        load(CHECK_METRIC)(self.metric)

    def device(self, run: Run) -> str:
        """The run's device, or the processor's where the detections are there."""
        return "cpu" if self.reuse and has_stored_detections(run, self) else run.device

    def plan(self, run: Run) -> Plan:
        """Images to run over."""
        return Plan(images=len(self.truth(run).images), disk_bytes=1_000_000)

    def make(self, run: Run, folder: Path) -> Outcome:
        """Detect on every image, unless that has been done, then score."""
        outcome: Outcome = load(WORK)(run, self, folder)
        return outcome


def evaluate_of(
    name: str,
    split: str = "validation",
    averaged: bool = True,
    source: LabelledSet | None = None,
    metric: str = "auto",
    reuse: bool = True,
) -> Evaluate:
    """The evaluation of what ``--of`` names; all else as `Evaluate` has it.

    Args:
        name: ``teacher``, ``student``, ``student-2`` (of round 2), or a path.
        split: Which image set.
        averaged: Whether to take averaged weights.
        source: The image set of ``split`` ``file``.
        metric: Which figures.
        reuse: Whether detections of another metric's evaluation may be taken.
    """
    training = training_named(name)
    if training is not None and training.round > 1:
        return Evaluate("student", split, averaged, source, metric, reuse, round=training.round)
    return Evaluate(name, split, averaged, source, metric, reuse)


def evaluated_set(
    split: str, images: Path | None, annotations: Path | None
) -> tuple[str, LabelledSet | None]:
    """Turn the command line's words for an image set into ``Evaluate``'s split and source.

    Raises:
        UsageError: An unknown split, or a folder without its annotation file.
    """
    if images is None and annotations is None:
        if split not in ("validation", "labelled"):
            raise UsageError(f"--split is 'validation' or 'labelled', not '{split}'")
        return split, None
    if images is None or annotations is None:
        raise UsageError("--images and --annotations go together")
    return "file", LabelledSet(images=images.resolve(), annotations=annotations.resolve())
