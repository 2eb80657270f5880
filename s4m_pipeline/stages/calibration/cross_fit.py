"""Stage ``cross-fit``: the labelled images as teachers see them that were not trained on them.

The labelled images are shared out among folds. For each fold a teacher is trained on all the others
and predicts the images of that fold, so that no prediction is of an image that its teacher
memorised. The predictions stand in one table, as those of ``pseudo-label`` do.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from s4m_pipeline.artifacts.manifest import file_entry, write_json
from s4m_pipeline.artifacts.seeds import rng
from s4m_pipeline.artifacts.shards import Shard, ShardResult
from s4m_pipeline.config import RunConfig, TeacherSection
from s4m_pipeline.data.image_set import ImageRecord
from s4m_pipeline.devices.placement import Place, settle
from s4m_pipeline.engine.reading import in_batches, load_prepared
from s4m_pipeline.engine.run import Run
from s4m_pipeline.engine.sharded import ShardedStage
from s4m_pipeline.engine.stage import Outcome, Plan, Stage, label_categories
from s4m_pipeline.errors import UsageError
from s4m_pipeline.execution.base import Advance, ShardWorker, WorkerFactory
from s4m_pipeline.stages.prediction_rows import PredictionSettings, prediction_rows
from s4m_pipeline.stages.structure import Structure
from s4m_pipeline.stages.train_teacher import teacher_extra
from s4m_pipeline.stages.training import (
    CHECKPOINT,
    CHECKPOINT_BYTES,
    LOG,
    check_training,
    check_weights,
    train_stage,
    training_settings,
    weights_source,
)

if TYPE_CHECKING:
    from s4m_pipeline.models.scaled_image import ScaledImage

FOLDS = "folds.json"


class CrossFit(ShardedStage):
    """Predictions of the labelled images by teachers that did not see them."""

    name: ClassVar[str] = "cross-fit"

    @property
    def command(self) -> str:
        """It is made for the calibration."""
        return "refine --calibrate"

    @property
    def made_alone(self) -> bool:
        """The calibration is made with it."""
        return False

    def settings(self, config: RunConfig) -> dict[str, Any]:
        """The folds, the teacher's settings and what shapes predictions."""
        return {
            "seed": config.seed,
            "folds": config.calibration.folds,
            "teacher": training_settings(fold_section(config)),
            "min_score": config.pseudo_label.min_score,
            "points": config.pseudo_label.points,
        }

    def sources(self, run: Run) -> dict[str, str]:
        """Labelled images and start weights."""
        weights = weights_source(run.config.teacher, run)
        return {"labelled": run.images.labelled_digest(), **weights}

    def upstream(self, config: RunConfig) -> dict[str, Stage]:
        """Structural targets, when the teacher learns from them."""
        return {"structure": Structure()} if config.teacher.structure_weight > 0 else {}

    def check(self, run: Run) -> None:
        """Refuse wrong settings and start weights, and fewer images than folds."""
        check_training(run.config.teacher, run)
        check_weights(self, run.config.teacher, run)
        images, folds = len(run.images.labelled.images), run.config.calibration.folds
        if images < folds:
            raise UsageError(
                f"calibration.folds is {folds}, but data.labelled has only {images} images"
            )

    def records(self, run: Run) -> list[ImageRecord]:
        """The labelled images."""
        return run.images.labelled.images

    def categories(self, run: Run) -> Sequence[Mapping[str, Any]]:
        """The labelled set's categories."""
        return label_categories(run.images.labelled.categories)

    def bytes_per_image(self, run: Run) -> int:
        """About 20 KB: some ten instances of 2 KB."""
        return 20_000

    def plan(self, run: Run) -> Plan:
        """Images and shards to predict, iterations of all folds' teachers."""
        plan = super().plan(run)
        folds = run.config.calibration.folds
        plan.steps = folds * fold_section(run.config).iterations
        plan.disk_bytes += folds * CHECKPOINT_BYTES
        return plan

    def factory(self) -> WorkerFactory:
        """Makes a ``_Worker``."""
        return _make_worker

    def argument(self, run: Run) -> _Task:
        """The folds' teachers, which image is whose, and the settings."""
        folder = run.folder(self)
        return _Task(
            checkpoints=tuple(
                fold_folder(folder, number) / CHECKPOINT
                for number in range(run.config.calibration.folds)
            ),
            device=run.device,
            records={record.id: record for record in self.records(run)},
            fold_of=fold_of_image(run),
            settings=PredictionSettings.of(run.config),
            batch_size=run.config.pseudo_label.batch_size,
        )

    def make(self, run: Run, folder: Path) -> Outcome:
        """Train each fold's teacher, predict, and keep their logs but not their weights."""
        folds = range(run.config.calibration.folds)
        found = super().plan(run)
        if found.shards_done < found.shards:
            for number in folds:
                self._train(run, folder, number)
        made = super().make(run, folder)
        of_image = fold_of_image(run)
        write_json(folder / FOLDS, [[i for i, f in of_image.items() if f == n] for n in folds])
        made.files.append(file_entry(folder, folder / FOLDS))
        for number in folds:
            (fold_folder(folder, number) / CHECKPOINT).unlink(missing_ok=True)
            made.files.append(file_entry(folder, fold_folder(folder, number) / LOG))
        return made

    def _train(self, run: Run, folder: Path, number: int) -> None:
        section = fold_section(run.config)
        left_out = [image for image, fold in fold_of_image(run).items() if fold == number]
        run.reporter.say(
            f"{self.name}: teacher {number + 1} of {run.config.calibration.folds}, "
            f"without {len(left_out)} labelled images"
        )
        structure = run.require(Structure()) if section.structure_weight > 0 else None
        train_stage(
            run,
            self,
            fold_folder(folder, number),
            section,
            structure,
            teacher_extra(section),
            left_out=left_out,
            validate=False,
        )


def fold_section(config: RunConfig) -> TeacherSection:
    """The settings of a fold's teacher: the teacher's, with the calibration's iterations."""
    iterations = config.calibration.iterations or config.teacher.iterations
    return config.teacher.model_copy(update={"iterations": iterations})


def fold_folder(folder: Path, number: int) -> Path:
    """Where the training of a fold's teacher lives in the artifact's folder."""
    return folder / "folds" / str(number)


def fold_of_image(run: Run) -> dict[int, int]:
    """By labelled image id, the fold whose teacher does not see it; from the run's seed."""
    from s4m_pipeline.stages.calibration.gains import assign_folds

    labelled = run.images.labelled
    classes = [[i.category_id for i in labelled.instances.get(r.id, [])] for r in labelled.images]
    generator = rng(run.config.seed, CrossFit.name, "folds")
    folds = assign_folds(classes, run.config.calibration.folds, generator)
    return {r.id: int(fold) for r, fold in zip(labelled.images, folds, strict=True)}


@dataclass(frozen=True, slots=True)
class _Task:
    checkpoints: tuple[Path, ...]
    device: str
    records: Mapping[int, ImageRecord]
    fold_of: Mapping[int, int]
    settings: PredictionSettings
    batch_size: int


class _Worker(ShardWorker):
    def __init__(self, task: _Task, place: Place) -> None:
        from s4m_pipeline.models.predictor import Predictor

        self._task = task
        device = settle(task.device, place)
        self._teachers = [Predictor(path, device) for path in task.checkpoints]
        self._category_ids = [int(c["id"]) for c in self._teachers[0].categories]

    def process(self, shard: Shard, advance: Advance) -> ShardResult:
        """Predict each of a shard's images by its fold's teacher."""
        start = time.perf_counter()
        rows: dict[int, list[dict[str, Any]]] = {}
        aside: list[dict[str, Any]] = []
        for number in range(len(self._teachers)):
            ids = [i for i in shard.image_ids if self._task.fold_of[i] == number]
            records = [self._task.records[i] for i in ids]
            scaled = self._teachers[number].scaled
            images = load_prepared(records, CrossFit.name, aside, scaled)
            for batch in in_batches(images, self._task.batch_size):
                rows |= self._predict(number, batch)
                advance(len(batch))
        advance(len(aside))
        flat = [row for image_id in sorted(rows) for row in rows[image_id]]
        return ShardResult(
            {"predictions": flat, "quarantine": aside},
            {"images": len(rows), "instances": len(flat), "quarantined": len(aside)},
            {"predict": time.perf_counter() - start},
            warnings=sorted({text for teacher in self._teachers for text in teacher.warnings}),
        )

    def _predict(
        self, number: int, batch: Sequence[tuple[ImageRecord, ScaledImage]]
    ) -> dict[int, list[dict[str, Any]]]:
        images = [image for _, image in batch]
        found = self._teachers[number].predict(images, self._task.settings.min_score)
        return {
            record.id: prediction_rows(
                record, image.original, predictions, self._category_ids, self._task.settings
            )
            for (record, image), predictions in zip(batch, found, strict=True)
        }


def _make_worker(task: _Task, place: Place) -> _Worker:
    return _Worker(task, place)
