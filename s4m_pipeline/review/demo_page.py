"""The demo's page: the results, and pictures from image to student."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from s4m_pipeline.review.drawing import draw_masks, fit_scale, resize
from s4m_pipeline.review.page import Extras, Gallery, GalleryRow, write_page
from s4m_pipeline.review.palette import Colour, class_colours
from s4m_pipeline.review.terminal import comparison_table

LabelledMask = tuple[bytes, str]

COLUMNS = ("image", "truth", "teacher", "refined", "student")
LONGEST = 480
SUMMARY = (
    "A small network, the teacher, learns from a few labelled scenes and draws masks on scenes "
    "that have no labels. A promptable segmenter (a small SAM 2) redraws those masks from points "
    "inside them. A second network, the student, then learns from the labelled scenes and the "
    "redrawn masks together.\n\n"
    "If redrawing helps, the masks fit the truth better after it than before, and the student "
    "that learned from them beats both the teacher and a student that learned from the teacher's "
    "masks as they were."
)
READING = (
    (
        "AP",
        "is the average precision of masks as COCO defines it, measured on validation scenes that "
        "no stage learned from and no setting was chosen on. Higher is better; the best of each "
        "column is marked.",
    ),
    (
        "teacher, trained on",
        "is the teacher after as many more iterations as a student gets, on the labelled scenes "
        "alone: what training time brings without pseudo-labels.",
    ),
    ("image", "is the scene alone."),
    ("truth", "shows the masks that the scene was made with. No stage sees them."),
    ("teacher", "shows the masks that the teacher is sure enough of to pass on as labels."),
    ("refined", "shows these masks after the segmenter redrew them. The student learns from them."),
    ("student", "shows what the student draws on the scene after its training."),
    "A colour is one class in all pictures. Click a picture to see it large.",
)


@dataclass(slots=True)
class DemoSample:
    """One scene of the demo: image uint8 (H, W, 3), and four sets of (RLE, class name)."""

    name: str
    image: np.ndarray
    truth: Sequence[LabelledMask]
    teacher: Sequence[LabelledMask]
    refined: Sequence[LabelledMask]
    student: Sequence[LabelledMask]


def write_demo_page(
    path: Path,
    rows: Sequence[Mapping[str, Any]],
    samples: Sequence[DemoSample],
    notes: Sequence[str] = (),
    classes: Sequence[str] | None = None,
) -> None:
    """Write the demo's page.

    Args:
        path: The HTML file.
        rows: Mappings with ``name`` and figures by column head, as for the terminal's table.
        samples: Scenes to show, in order.
        notes: More about this run (seed, time, sizes), one sentence each.
        classes: All class names in the categories' order, so that their colours are the same on
            every page; None takes those of the samples, sorted.

    Raises:
        UsageError: A mask is not of its image's size, or the file cannot be written.
    """
    names = list(classes) if classes is not None else sorted(_labels(samples))
    colours = class_colours(names)
    gallery = Gallery(
        "From image to student",
        COLUMNS,
        [_row(sample, colours) for sample in samples],
        note="Scenes that were given to the run without labels.",
        legend=list(colours.items()),
    )
    table = comparison_table(rows, title="What came out")
    table.note = "" if not notes else " ".join(notes)
    write_page(
        path,
        "S4M demo: from a few labels to a student",
        SUMMARY,
        [table],
        [gallery],
        Extras(notes=READING),
    )


def _labels(samples: Sequence[DemoSample]) -> set[str]:
    return {
        label
        for sample in samples
        for masks in (sample.truth, sample.teacher, sample.refined, sample.student)
        for _, label in masks
    }


def _row(sample: DemoSample, colours: Mapping[str, Colour]) -> GalleryRow:
    scale = fit_scale(sample.image.shape[0], sample.image.shape[1], LONGEST)
    pictures = [resize(sample.image, scale)]
    captions = [""]
    for masks in (sample.truth, sample.teacher, sample.refined, sample.student):
        rles, labels = [rle for rle, _ in masks], [label for _, label in masks]
        pictures.append(draw_masks(sample.image, rles, labels, scale=scale, colours=colours))
        captions.append(count_text(len(masks), "mask"))
    return GalleryRow(sample.name, pictures, captions)


def count_text(count: int, thing: str) -> str:
    """``1 mask``, ``2 masks``, ``no masks``."""
    return f"{count or 'no'} {thing}{'' if count == 1 else 's'}"
