"""Which models label in a round: its own, and those of ``pseudo_label.teachers`` beside it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from s4m_pipeline.artifacts.fingerprint import content_digest, digest_of
from s4m_pipeline.artifacts.training_files import CHECKPOINT
from s4m_pipeline.config import CROSS_FIT, ROUNDS, RunConfig
from s4m_pipeline.config_views import IMAGE
from s4m_pipeline.engine.perform import freshness
from s4m_pipeline.engine.registry import stage_named
from s4m_pipeline.engine.run import Run
from s4m_pipeline.errors import UsageError
from s4m_pipeline.late import load
from s4m_pipeline.stages.given_checkpoints import given_checkpoint, trusted_digest
from s4m_pipeline.stages.trainings import labeller, training_named, training_of_round

if TYPE_CHECKING:
    from s4m_pipeline.engine.stage import Stage

CHECK_FITS = "s4m_pipeline.models.labeller.fits:check_fits"
MOST_PASSES = 255
"""What the column ``views_seen`` can count."""
FOLDS = "folds"
"""The folder in the ``cross-fit`` artifact that has a folder for each of its teachers."""


def labels_as_one(config: RunConfig) -> bool:
    """Whether one model alone labels, and looks at pictures as they are."""
    section = config.pseudo_label
    return not section.teachers and section.views == [IMAGE]


def passes_of(config: RunConfig, round: int) -> int:
    """How often a network looks at a picture that is labelled in a round."""
    section = config.pseudo_label
    others = len(section.teachers)
    if CROSS_FIT in section.teachers:
        others += config.calibration.folds - 1
    if ROUNDS in section.teachers:
        others += round - 2
    return (1 + others) * len(section.views)


def labelling_settings(config: RunConfig) -> dict[str, Any]:
    """Views and teachers, for a fingerprint; nothing where one model labels in the usual way."""
    section = config.pseudo_label
    words = [name if name in (CROSS_FIT, ROUNDS) else "checkpoint" for name in section.teachers]
    return {
        **({} if section.views == [IMAGE] else {"views": list(section.views)}),
        **({"teachers": words} if words else {}),
    }


def teacher_stages(config: RunConfig, round: int) -> dict[str, Stage]:
    """The stages, by input name, whose models label beside a round's own."""
    named, stages = config.pseudo_label.teachers, {}
    if CROSS_FIT in named:
        stages["cross-fit"] = stage_named("cross-fit")
    if ROUNDS in named:
        stages |= {f"teacher-{n}": training_of_round(n) for n in range(round - 1)}
    return stages


def teacher_sources(run: Run) -> dict[str, str]:
    """The digest of the checkpoints that are given by path, in their order."""
    digests = [trusted_digest(run, path) for path in _given(run.config)]
    return {"teachers": digest_of(digests)} if digests else {}


def teacher_files(run: Run, round: int) -> tuple[Path, ...]:
    """The checkpoints that label beside a round's own.

    Raises:
        UsageError: One has not been made.
        ArtifactError: One is stale or damaged.
    """
    files: list[Path] = []
    for name in run.config.pseudo_label.teachers:
        if name == CROSS_FIT:
            folder = run.require(stage_named("cross-fit"))
            folds = range(run.config.calibration.folds)
            files += [folder / FOLDS / str(number) / CHECKPOINT for number in folds]
        elif name == ROUNDS:
            files += [run.require(training_of_round(n)) / CHECKPOINT for n in range(round - 1)]
        else:
            files.append(_file_of(name))
    return tuple(files)


def check_teachers(run: Run, stage: Stage) -> None:
    """Refuse teachers that cannot label together, before any work.

    Args:
        run: The run.
        stage: The stage that has them label.

    Raises:
        UsageError: One is not there, is given twice, or learned other classes or from pictures that
            were read otherwise; or they are more than ``views_seen`` can count.
        ArtifactError: One is damaged or not to be trusted.
    """
    passes = passes_of(run.config, stage.round)
    if passes > MOST_PASSES:
        raise UsageError(
            f"pseudo_label.teachers and pseudo_label.views make {passes} passes over a picture; "
            f"{MOST_PASSES} are the most.\nName fewer teachers or views."
        )
    given = _given(run.config)
    _refuse_twice(run, given, stage)
    section = run.config.pseudo_label
    if section.teachers and section.judged:
        run.reporter.warn_once(
            f"pseudo_label.thresholds is {section.thresholds}: it is measured with one teacher an "
            "image, and with those of pseudo_label.teachers scores are lower: fewer labels, of "
            "higher precision; rate follows the scores of all"
        )
    if given and freshness(run, stage).state != "fresh":
        load(CHECK_FITS)(given, run.images.labelled.categories, run.images.reading)


def _refuse_twice(run: Run, given: list[Path], stage: Stage) -> None:
    """A checkpoint that is given twice, or is the round's own, would count twice."""
    seen: dict[str, str] = {}
    own = labeller(stage.round, stage.refresh)
    if given and freshness(run, own).state == "fresh":
        seen[content_digest(run.folder(own) / CHECKPOINT, run.store.facts)] = "the round's own"
    for path in given:
        digest = content_digest(path, run.store.facts)
        if digest in seen:
            raise UsageError(
                f"pseudo_label.teachers: {path} is the same checkpoint as {seen[digest]}.\n"
                "Leave it out; the round's own model labels anyway."
            )
        seen[digest] = str(path)


def _given(config: RunConfig) -> list[Path]:
    """The checkpoints that are given by path."""
    named = config.pseudo_label.teachers
    return [_file_of(name) for name in named if name not in (CROSS_FIT, ROUNDS)]


def _file_of(name: str) -> Path:
    hint = ""
    if training_named(Path(name).name) is not None:
        hint = "\nThe round's own model labels anyway; 'rounds' adds those of all rounds before."
    return given_checkpoint(
        name,
        f"pseudo_label.teachers: there is no '{name}': each is {CROSS_FIT}, {ROUNDS}, or the path "
        f"of a checkpoint or of a training artifact's folder{hint}",
    )
