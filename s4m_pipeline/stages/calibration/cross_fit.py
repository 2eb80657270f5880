"""Stage ``cross-fit``: the labelled images, predicted by teachers that were not trained on them.

The labelled images are shared out among folds. For each fold a teacher is trained on all the other
folds and predicts the images of that one, so that no teacher predicts an image that it memorised.
The predictions are in one table, like those of ``pseudo-label``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from s4m_pipeline.artifacts.digest_beside import remove_with_digest
from s4m_pipeline.artifacts.manifest import file_entry
from s4m_pipeline.artifacts.sealed import write_json
from s4m_pipeline.artifacts.training_files import CHECKPOINT, LOG
from s4m_pipeline.config import CROSS_FIT, RunConfig, TeacherSection
from s4m_pipeline.config_views import IMAGE, View, read_views
from s4m_pipeline.data.image_set import ImageRecord
from s4m_pipeline.engine.image_sources import LABELLED
from s4m_pipeline.engine.run import Run
from s4m_pipeline.engine.sharded import ShardedStage
from s4m_pipeline.engine.stage import Outcome, Plan, Stage
from s4m_pipeline.errors import UsageError
from s4m_pipeline.late import load
from s4m_pipeline.stages.prediction_settings import PREDICTION_BYTES, PredictionSettings
from s4m_pipeline.stages.teachers import FOLDS as FOLDER
from s4m_pipeline.stages.training import (
    CHECKPOINT_BYTES,
    check_training,
    check_weights,
    own_models,
    teacher_upstream,
    training_settings,
    weights_source,
)

FOLDS = "folds.json"
SET_ASIDE = "quarantine/00000.parquet"
"""In a fold's folder, where images could not be trained on."""
FOLD_OF_IMAGE = "s4m_pipeline.stages.calibration.fold_training:fold_of_image"
TRAIN_FOLD = "s4m_pipeline.stages.calibration.fold_training:train_fold"


@dataclass(frozen=True)
class CrossFit(ShardedStage):
    """Predictions of the labelled images by teachers that did not see them."""

    name: ClassVar[str] = "cross-fit"
    images = LABELLED
    repaired_by_shard = False  # its teachers are gone, and other ones would be trained
    worker = "s4m_pipeline.stages.calibration.cross_fit_worker:CrossFitWorker"

    @classmethod
    def of_round(cls, config: RunConfig, number: int) -> Sequence[Stage]:
        """Once, where the policy or the thresholds depend on it."""
        section = config.pseudo_label
        wanted = config.refine.policy == "auto" or section.judged
        return [cls()] if (wanted or keeps_teachers(config)) and number == 1 else []

    @property
    def command(self) -> str:
        """The calibration makes it."""
        return "calibrate"

    @property
    def made_alone(self) -> bool:
        """No: the calibration is made with it."""
        return False

    def settings(self, config: RunConfig) -> dict[str, Any]:
        """The folds, the teacher's settings and those of the stored predictions.

        Its images are predicted in the run's views, so that scores mean what they mean there.
        """
        views = config.pseudo_label.views
        return {
            "seed": config.seed,
            "folds": config.calibration.folds,
            "teacher": training_settings(fold_section(config)),
            "min_score": config.pseudo_label.min_score,
            "points": config.pseudo_label.points,
            **({} if views == [IMAGE] else {"views": list(views)}),
            **({"weights": "kept"} if keeps_teachers(config) else {}),
        }

    def sources(self, run: Run) -> dict[str, str]:
        """Labelled images and start weights."""
        return {**super().sources(run), **weights_source(run.config.teacher, run)}

    def upstream(self, config: RunConfig) -> dict[str, Stage]:
        """Structural targets, where the teacher learns from them."""
        return teacher_upstream(config)

    def check(self, run: Run) -> None:
        """Refuse wrong settings and start weights, and fewer images than folds."""
        check_training(run.config.teacher, run)
        check_weights(self, run.config.teacher, run)
        super().check(run)
        images, folds = len(run.images.labelled.images), run.config.calibration.folds
        if images < folds:
            raise UsageError(
                f"calibration.folds is {folds}, but data.labelled has only {images} images"
            )

    def bytes_per_image(self, run: Run) -> int:
        """About 20 KB."""
        return PREDICTION_BYTES

    def plan(self, run: Run) -> Plan:
        """Images and shards to predict, and iterations of all folds' teachers."""
        plan = super().plan(run)
        folds = run.config.calibration.folds
        plan.steps = folds * fold_section(run.config).iterations
        plan.disk_bytes += folds * CHECKPOINT_BYTES
        plan.passes = len(run.config.pseudo_label.views)
        return plan

    def task(self, run: Run) -> CrossFitTask:
        """The folds' teachers, the fold of each image, and the settings."""
        folder, folds = run.folder(self), range(run.config.calibration.folds)
        return CrossFitTask(
            checkpoints=tuple(fold_folder(folder, number) / CHECKPOINT for number in folds),
            device=run.device,
            records={record.id: record for record in self.records(run)},
            fold_of=load(FOLD_OF_IMAGE)(run),
            settings=PredictionSettings.of(run.config),
            batch_size=run.config.pseudo_label.batch_size,
            own_models=own_models(run.config),
            views=read_views(run.config.pseudo_label.views),
        )

    def make(self, run: Run, folder: Path) -> Outcome:
        """Train each fold's teacher, then predict.

        Their logs are kept, their weights only where they are to label.
        """
        folds = range(run.config.calibration.folds)
        if len(self.whole_shards(run, folder)) < len(self.shards(run)):
            for number in folds:
                load(TRAIN_FOLD)(run, self, fold_folder(folder, number), number)
        outcome = super().make(run, folder)
        fold_of: Mapping[int, int] = load(FOLD_OF_IMAGE)(run)
        write_json(folder / FOLDS, [[i for i, f in fold_of.items() if f == n] for n in folds])
        outcome.files.append(file_entry(folder, folder / FOLDS))
        for number in folds:
            weights = fold_folder(folder, number) / CHECKPOINT
            if keeps_teachers(run.config):
                outcome.files.append(file_entry(folder, weights))
            else:
                remove_with_digest(weights)
            left = (fold_folder(folder, number) / name for name in (LOG, SET_ASIDE))
            outcome.files += [file_entry(folder, path) for path in left if path.is_file()]
        return outcome


def keeps_teachers(config: RunConfig) -> bool:
    """Whether the folds' teachers are to label unlabelled images, too."""
    return CROSS_FIT in config.pseudo_label.teachers


def fold_section(config: RunConfig) -> TeacherSection:
    """The settings of a fold's teacher: the teacher's, with the calibration's iterations.

    It is not validated, so its last weights are kept.
    """
    iterations = config.calibration.iterations or config.teacher.iterations
    return config.teacher.model_copy(update={"iterations": iterations, "keep": "last"})


def fold_folder(folder: Path, number: int) -> Path:
    """The folder, in the artifact's, where a fold's teacher is trained."""
    return folder / FOLDER / str(number)


@dataclass(frozen=True, slots=True)
class CrossFitTask:
    """The images that a worker predicts, and the teachers that predict them.

    Attributes:
        checkpoints: The teachers' files, fold by fold.
        device: The device that they run on.
        records: The labelled images by id.
        fold_of: By image id, the fold whose teacher did not see it.
        settings: Which predictions are stored.
        batch_size: Images a network takes at a time.
        own_models: The model configs that the run's own file names.
        views: What a network looks at.
    """

    checkpoints: tuple[Path, ...]
    device: str
    records: Mapping[int, ImageRecord]
    fold_of: Mapping[int, int]
    settings: PredictionSettings
    batch_size: int
    own_models: tuple[str, ...] = ()
    views: tuple[View, ...] = (View(),)
