"""Whether checkpoints can label a run's pictures beside its own model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from s4m_pipeline.artifacts.manifest import MANIFEST, read_manifest
from s4m_pipeline.data.image_set import Category, check_same_categories
from s4m_pipeline.data.levels import Levels
from s4m_pipeline.data.reading import Reading
from s4m_pipeline.errors import UsageError
from s4m_pipeline.models.checkpoints import read_checkpoint


def check_fits(paths: Sequence[Path], categories: Sequence[Category], reading: Reading) -> None:
    """Refuse checkpoints of other classes, or that learned from pictures that were read otherwise.

    A picture of 8 bits has no levels, so a model that learned from such ones fits any.

    Args:
        paths: The checkpoints.
        categories: The run's classes.
        reading: How the run reads its pictures.

    Raises:
        UsageError: One does not fit; the message names it.
        ArtifactError: One is damaged.
    """
    for path in paths:
        stored = read_checkpoint(path)
        own = [Category(int(c["id"]), str(c["name"])) for c in stored.categories]
        check_same_categories(own, categories, f"pseudo_label.teachers: {path}", "data.labelled")
        levels = Levels.from_plain(stored.info.get("levels"))
        if levels is not None and reading.levels is not None and str(levels) != str(reading.levels):
            raise UsageError(
                f"pseudo_label.teachers: {path} learned at data.levels {levels}, this run reads "
                f"pictures at {reading.levels}.\nSet data.levels to those of all its models, or "
                "leave that one out."
            )
        if _upright(path) != reading.upright:
            read, wanted = ("upright", "ignore") if _upright(path) else ("ignore", "upright")
            raise UsageError(
                f"pseudo_label.teachers: {path} learned with data.exif: {read}, this run has "
                f"{wanted}.\nLeave it out, or read pictures in the same way."
            )


def _upright(path: Path) -> bool:
    """Whether a training turned its pictures upright, as its manifest says; so is usual."""
    if not (path.parent / MANIFEST).is_file():
        return True
    return read_manifest(path.parent).inputs.get("data.exif") != "ignore"
