"""Stage ``evaluate``: average precision of a checkpoint on an image set with masks."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

from s4m_pipeline.artifacts.manifest import MANIFEST, read_manifest
from s4m_pipeline.artifacts.training_files import CHECKPOINT, LAST
from s4m_pipeline.config import RunConfig
from s4m_pipeline.config_data import LabelledSet
from s4m_pipeline.data.image_set import ImageSet, check_same_categories
from s4m_pipeline.engine.image_sets import read_labelled
from s4m_pipeline.engine.registry import stage_named
from s4m_pipeline.engine.run import Run
from s4m_pipeline.engine.stage import Outcome, Plan, Stage
from s4m_pipeline.errors import UsageError
from s4m_pipeline.late import load
from s4m_pipeline.stages.detections import has_stored_detections
from s4m_pipeline.stages.legs import refresh_numbers
from s4m_pipeline.stages.trainings import training_named, training_of_round

DETECT_AND_SCORE = "s4m_pipeline.stages.detect_and_score:evaluate"
CHECK_METRIC = "s4m_pipeline.metrics.scoring:check_metric"
RULE = 2
"""Number of the rule by which instances are counted; every change of the rule raises it."""


@dataclass(frozen=True)
class Evaluate(Stage):
    """AP of one checkpoint on one image set.

    Attributes:
        of: ``student`` (of the stage's round), ``teacher``, or the path of a training artifact's
            folder or checkpoint.
        split: ``validation`` or ``labelled``; or ``file`` with ``images`` and ``annotations``.
        averaged: Whether to take the averaged weights (EMA) where the checkpoint has them.
        end: Whether to take the weights at the end of a training of this run that kept its best.
        source: The image set, where ``split`` is ``file``.
        metric: ``coco``, ``cityscapes``, ``both``, or ``auto``: both for Cityscapes' classes.
        reuse: Whether to take the detections of an evaluation that differs in its metric alone.
    """

    name: ClassVar[str] = "evaluate"

    of: str = "student"
    split: str = "validation"
    averaged: bool = True
    end: bool = False
    source: LabelledSet | None = None
    metric: str = "auto"
    reuse: bool = True

    @classmethod
    def of_round(cls, config: RunConfig, number: int) -> Sequence[Stage]:
        """The round's student and what it is at refreshes, after the first round's teacher.

        None without validation images.
        """
        if config.data.validation is None:
            return []
        stages = [cls("teacher")] if number == 1 else []
        numbers = (*refresh_numbers(config), 0)
        return stages + [cls("student", round=number, refresh=refresh) for refresh in numbers]

    @property
    def model(self) -> str:
        """What is evaluated, as ``--of`` names it, such as ``student-2-refresh-1``."""
        if self.of != "student":
            return self.of
        number = "" if self.round == 1 else f"-{self.round}"
        return f"{self.of}{number}" + (f"-refresh-{self.refresh}" if self.refresh else "")

    @property
    def label(self) -> str:
        """What is evaluated, for tables: ``student``, ``student-last`` for its last weights."""
        end = "-end" if self.end else ""
        return f"{Path(self.model).name}{end}{'' if self.averaged else '-last'}"

    @property
    def title(self) -> str:
        """What is evaluated, with image set and metric where these are not the usual ones."""
        where = "" if self.split == "validation" else f" on {self.split}"
        metric = "" if self.metric == "auto" else f" ({self.metric})"
        return f"{self.name} {self.label}{where}{metric}"

    @property
    def command(self) -> str:
        """With the options that tell this evaluation from others."""
        words = [self.name, "--of", self.model]
        if self.source is not None:
            words += ["--images", str(self.source.images)]
            words += ["--annotations", str(self.source.annotations)]
        elif self.split != "validation":
            words += ["--split", self.split]
        words += ["--end"] if self.end else []
        words += [] if self.averaged else ["--no-averaged"]
        words += [] if self.metric == "auto" else ["--metric", self.metric]
        return shlex.join(words)

    @property
    def pointer(self) -> str:
        """What is evaluated on what, the usual image set and last weights named as well."""
        weights = f"{'-end' if self.end else ''}{'' if self.averaged else '-source'}"
        metric = "" if self.metric == "auto" else f"-{self.metric}"
        return f"{Path(self.model).name}-{self.split}{weights}{metric}"

    @property
    def made_alone(self) -> bool:
        """It has a command of its own in every round."""
        return True

    def settings(self, config: RunConfig) -> dict[str, Any]:
        """What is evaluated, and the rule by which instances are counted."""
        return {
            "rule": RULE,
            "of": Path(self.model).name,
            "split": self.split,
            "averaged": self.averaged,
            "metric": self.metric,
            **({"end": True} if self.end else {}),
        }

    def sources(self, run: Run) -> dict[str, str]:
        """The image set, and a checkpoint given by path."""
        sources = {self.split: run.images.digest(self.section(run.config))}
        if not self.upstream(run.config):
            sources["checkpoint"] = run.store.digest_of_file(self._checkpoint_file())
        return sources

    def upstream(self, config: RunConfig) -> dict[str, Stage]:
        """The training, where it is one of this run."""
        if self.of == "teacher":
            return {self.model: training_of_round(0)}
        if self.of != "student":
            return {}
        return {self.model: stage_named("train-student", self.round, refresh=self.refresh)}

    def section(self, config: RunConfig) -> LabelledSet:
        """The image set that the model is evaluated on (UsageError where there is none)."""
        if self.split == "labelled":
            return config.data.labelled
        section = config.data.validation if self.split == "validation" else self.source
        if section is None:
            raise UsageError(
                f"nothing to evaluate on: data.{self.split} is missing; "
                "give data.validation, or --images with --annotations"
            )
        return section

    def _checkpoint_file(self) -> Path:
        """The checkpoint of ``of`` where that is a path."""
        path = Path(self.of)
        if path.is_dir():
            if not (path / CHECKPOINT).is_file():
                raise UsageError(
                    f"{self.of} holds no {CHECKPOINT}: it is not a finished training's folder"
                )
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
            folder = run.require(training)
            if self.end and not (folder / LAST).is_file():
                raise UsageError(
                    f"--end: {training.title} has no other weights than its checkpoint's: its keep "
                    "is last,\nits last weights are its best, or the disk had no room for both"
                )
            return folder / (LAST if self.end else CHECKPOINT)
        return self._checkpoint_file()

    def chosen_here(self, run: Run) -> bool:
        """Whether the weights were chosen by their validation on these very images."""
        if self.end:
            return False
        upstream = list(self.upstream(run.config).values())
        if upstream:
            folder = run.folder(upstream[0])
        else:
            folder = self._checkpoint_file().parent
        if not (folder / MANIFEST).is_file():
            return False
        kept = read_manifest(folder).metrics.get("kept")
        images = run.images.digest(self.section(run.config))
        return isinstance(kept, Mapping) and kept.get("images") == images

    def truth(self, run: Run) -> ImageSet:
        """The images that the model is evaluated on, with their instances."""
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
        """Refuse an unknown metric, and the end of a training that is not the run's."""
        load(CHECK_METRIC)(self.metric)
        if self.end and not self.upstream(run.config):
            raise UsageError(f"--end goes with a model of the run; give {LAST} of {self.of} itself")

    def device(self, run: Run) -> str:
        """The run's device; the CPU where the detections are stored already."""
        return "cpu" if self.reuse and has_stored_detections(run, self) else run.device

    def plan(self, run: Run) -> Plan:
        """The number of images."""
        return Plan(images=len(self.truth(run).images), disk_bytes=1_000_000)

    def make(self, run: Run, folder: Path) -> Outcome:
        """Detect on every image, unless the detections are stored already, then score."""
        outcome: Outcome = load(DETECT_AND_SCORE)(run, self, folder)
        return outcome


def evaluation_of(name: str, like: Evaluate) -> Evaluate:
    """The evaluation of what ``--of`` names.

    Args:
        name: ``teacher``, ``student``, ``student-2`` (of round 2), ``student-refresh-1``, a path.
        like: An evaluation that has the same image set, metric and other choices.
    """
    training = training_named(name)
    if training is not None and name != "teacher":
        return replace(like, of="student", round=training.round, refresh=training.refresh)
    return replace(like, of=name, round=1, refresh=0)


def evaluated_set(
    split: str, images: Path | None, annotations: Path | None
) -> tuple[str, LabelledSet | None]:
    """From the command line's options for an image set to the split and source of `Evaluate`.

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
