"""Which of a run's image sets a stage works over."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from s4m_pipeline.data.image_set import ImageRecord, ImageSet
from s4m_pipeline.engine.run import Run
from s4m_pipeline.errors import UsageError


@dataclass(frozen=True, slots=True)
class ImageSource:
    """One image set of every run.

    Attributes:
        name: Its name among a stage's inputs.
        images: The set (UsageError where the run has none).
        digest: The digest of its images and labels, for fingerprints.
        check: Refuses a set that cannot be used, before any work (UsageError).
    """

    name: str
    images: Callable[[Run], ImageSet]
    digest: Callable[[Run], str]
    check: Callable[[Run], object]

    def records(self, run: Run) -> list[ImageRecord]:
        """The set's images."""
        return self.images(run).images


def _check_unlabelled(run: Run) -> None:
    run.images.load_unlabelled_set()
    if text := run.images.unlabelled_files():
        run.reporter.say_once(text)


def _validation(run: Run) -> ImageSet:
    if run.images.validation is None:
        raise _no_validation()
    return run.images.validation


def _validation_digest(run: Run) -> str:
    section = run.config.data.validation
    if section is None:
        raise _no_validation()
    return run.images.digest(section)


def _no_validation() -> UsageError:
    return UsageError("data.validation is missing: this stage works on the validation images")


LABELLED = ImageSource(
    "labelled",
    lambda run: run.images.labelled,
    lambda run: run.images.labelled_digest(),
    lambda run: run.images.load_labelled_sets(),
)
UNLABELLED = ImageSource(
    "unlabelled",
    lambda run: run.images.unlabelled,
    lambda run: run.images.unlabelled_digest(),
    _check_unlabelled,
)
VALIDATION = ImageSource("validation", _validation, _validation_digest, _validation)
