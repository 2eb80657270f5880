"""Stage ``evaluate``: average precision of a checkpoint artifact on an image set with masks."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from s4m_pipeline.artifacts.manifest import file_entry, write_json
from s4m_pipeline.config import LabelledSet, RunConfig
from s4m_pipeline.data.image_set import Category, ImageSet, check_same_categories
from s4m_pipeline.engine.image_sets import read_labelled
from s4m_pipeline.engine.reading import in_batches, load_prepared
from s4m_pipeline.engine.registry import training_named
from s4m_pipeline.engine.run import Run
from s4m_pipeline.engine.stage import Outcome, Plan, Stage
from s4m_pipeline.errors import S4MError, UsageError
from s4m_pipeline.stages.detections import DETECTIONS, known_detections, knows_detections
from s4m_pipeline.stages.training import CHECKPOINT

BATCH = 4
RULE = 2
"""Number of the rule by which instances are counted: one more with every change of it."""


@dataclass(frozen=True)
class Evaluate(Stage):
    """AP of one checkpoint on one image set.

    Attributes:
        of: ``student``, ``teacher``, ``student-2`` (of round 2), or the path of a training
            artifact's folder or checkpoint.
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

    @property
    def label(self) -> str:
        """What is evaluated: ``student``, ``student-last`` for its last weights, and so on."""
        return Path(self.of).name if self.averaged else f"{Path(self.of).name}-last"

    @property
    def title(self) -> str:
        """What is evaluated, on what and by which figures, where these are not the usual ones."""
        where = "" if self.split == "validation" else f" on {self.split}"
        figures = "" if self.metric == "auto" else f" ({self.metric})"
        return f"{self.name} {self.label}{where}{figures}"

    @property
    def command(self) -> str:
        """The options that tell this evaluation from the others."""
        words = [self.name, "--of", self.of]
        if self.source is not None:
            words += ["--images", str(self.source.images)]
            words += ["--annotations", str(self.source.annotations)]
        elif self.split != "validation":
            words += ["--split", self.split]
        words += [] if self.averaged else ["--no-averaged"]
        words += [] if self.metric == "auto" else ["--metric", self.metric]
        return shlex.join(words)

    @property
    def kind(self) -> str:  # type: ignore[override]
        """What is evaluated on what, as a file's name can hold it."""
        weights = "" if self.averaged else "-source"
        metric = "" if self.metric == "auto" else f"-{self.metric}"
        return f"{Path(self.of).name}-{self.split}{weights}{metric}"

    def settings(self, config: RunConfig) -> dict[str, Any]:
        """What is evaluated, and the rule by which it is counted."""
        return {
            "rule": RULE,
            "of": Path(self.of).name,
            "split": self.split,
            "averaged": self.averaged,
            "metric": self.metric,
        }

    def sources(self, run: Run) -> dict[str, str]:
        """The image set, and a checkpoint given by path."""
        sources = {self.split: run.images.digest(self._section(run.config))}
        if not self.upstream(run.config):
            sources["checkpoint"] = run.store.digests.file(self._given())
        return sources

    def upstream(self, config: RunConfig) -> dict[str, Stage]:
        """The training, when it is this run's."""
        training = training_named(self.of)
        return {} if training is None else {self.of: training}

    def _section(self, config: RunConfig) -> LabelledSet:
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

    def _checkpoint(self, run: Run) -> Path:
        for training in self.upstream(run.config).values():
            return run.require(training) / CHECKPOINT
        return self._given()

    def _truth(self, run: Run) -> ImageSet:
        truth = read_labelled(self._section(run.config), f"data.{self.split}")
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
        from s4m_pipeline.metrics.scoring import METRICS

        if self.metric not in METRICS:
            raise UsageError(f"--metric is one of {', '.join(METRICS)}, not '{self.metric}'")

    def device(self, run: Run) -> str:
        """The run's device, or the processor's where the detections are there."""
        return "cpu" if self.reuse and knows_detections(run, self) else run.device

    def plan(self, run: Run) -> Plan:
        """Images to run over."""
        return Plan(images=len(self._truth(run).images), disk_bytes=1_000_000)

    def make(self, run: Run, folder: Path) -> Outcome:
        """Detect on every image, unless that has been done, then score."""
        from s4m_pipeline.metrics.scoring import score_detections

        truth = self._truth(run)
        aside: list[dict[str, Any]] = []
        told: list[str] = []
        detections = known_detections(run, self) if self.reuse else None
        if detections is None:
            detections = list(self._detect(run, truth, aside, told))
        for row in aside:
            run.reporter.warn(f"{row['file_name']} is set aside: {row['error']}")
        truth = truth.without({row["image_id"] for row in aside})
        if not truth.images:
            raise S4MError(f"none of the {len(aside)} images can be read: {aside[0]['error']}")
        metrics = score_detections(truth, detections, self.metric, self._void(run, truth))
        if told:
            metrics["warnings"] = told
        write_json(folder / DETECTIONS, detections)
        counts = {
            "images": len(truth.images),
            "instances": truth.instance_count,
            "quarantined": len(aside),
        }
        return Outcome([file_entry(folder, folder / DETECTIONS)], counts, metrics)

    def _void(self, run: Run, truth: ImageSet) -> dict[int, bytes]:
        """The pixels without a label, where Cityscapes' metric asks for them."""
        from s4m_pipeline.metrics.cityscapes_metric import read_void
        from s4m_pipeline.metrics.scoring import wants_cityscapes

        if not wants_cityscapes(self.metric, truth):
            return {}
        annotations = self._section(run.config).annotations
        void = read_void(annotations)
        if not void:
            run.reporter.warn(
                f"{annotations.name} marks no void pixels: for Cityscapes' metric, detections "
                "there count as false"
            )
        return void

    def _detect(
        self, run: Run, truth: ImageSet, aside: list[dict[str, Any]], told: list[str]
    ) -> Iterator[dict[str, Any]]:
        from s4m_pipeline.models.predictor import Predictor

        predictor = Predictor(self._checkpoint(run), run.device, averaged=self.averaged)
        own = [Category(int(c["id"]), str(c["name"])) for c in predictor.categories]
        check_same_categories(own, truth.categories, "the checkpoint", f"data.{self.split}")
        ids = [int(category["id"]) for category in predictor.categories]
        with run.reporter.progress(self.name, len(truth.images)) as advance:
            images = load_prepared(truth.images, self.name, aside, predictor.scaled)
            for batch in in_batches(images, BATCH):
                found = predictor.detect([image for _, image in batch])
                for (record, image), detected in zip(batch, found, strict=True):
                    size = list(image.original)
                    for label, score, box, rle in zip(
                        detected.labels, detected.scores, detected.boxes, detected.rles, strict=True
                    ):
                        x0, y0, x1, y1 = (float(value) for value in box)
                        yield {
                            "image_id": record.id,
                            "category_id": ids[int(label)],
                            "score": float(score),
                            "bbox": [x0, y0, x1 - x0, y1 - y0],
                            "segmentation": {"size": size, "counts": rle.decode("ascii")},
                        }
                advance(len(batch), "")
        for warning in predictor.warnings:
            run.reporter.warn(warning)
        told += predictor.warnings


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
