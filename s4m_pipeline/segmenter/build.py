"""The table of segmenters. Importing this module, and checking a choice, needs no torch."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from s4m_pipeline.errors import UsageError
from s4m_pipeline.late import load
from s4m_pipeline.segmenter.spec import SegmenterChoice, SegmenterSpec

if TYPE_CHECKING:
    from s4m_pipeline.segmenter.base import Segmenter

SPECS: tuple[str, ...] = (
    "s4m_pipeline.segmenter.sam2_spec:SPEC",
    "s4m_pipeline.segmenter.mobilesam_spec:SPEC",
    "s4m_pipeline.segmenter.demo_spec:SPEC",
)
"""Where each `SegmenterSpec` is: a new segmenter is its file and a line here.

The modules are imported in this order until a name is known. So those that import no torch stand
first: where one of them is chosen, ``s4m status`` answers at once.
"""


def specs() -> Iterator[SegmenterSpec]:
    """The specs in the table's order, each module imported when its turn comes."""
    for name in SPECS:
        spec: SegmenterSpec = load(name)
        yield spec


def segmenter_names() -> dict[str, str]:
    """The names that ``segmenter.name`` may be, each with a line of help."""
    return {name: text for spec in specs() for name, text in spec.names.items()}


def spec_of(name: str) -> SegmenterSpec:
    """What is known of a segmenter.

    Raises:
        UsageError: There is none of that name.
    """
    for spec in specs():
        if name in spec.names:
            return spec
    raise UsageError(f"unknown segmenter {name!r}; there are {', '.join(segmenter_names())}")


def own_weights(name: str) -> Path | None:
    """The weights that a segmenter has without a checkpoint; None for a name that is unknown."""
    return next((spec.own_weights for spec in specs() if name in spec.names), None)


def check_segmenter(choice: SegmenterChoice) -> None:
    """Find fault with a choice of segmenter before anything is loaded.

    Raises:
        UsageError: The name is unknown, a file is missing, the size is one that the segmenter
            cannot take, or it has no faster way than float32.
    """
    spec_of(choice.name).check(choice)


def build_segmenter(
    name: str,
    checkpoint: str | Path | None,
    image_size: int | None,
    device: str,
    precision: str = "float32",
    compile_encoder: bool = False,
) -> Segmenter:
    """Make a segmenter, ready to run.

    Args:
        name: One of `segmenter_names`.
        checkpoint: A file (SAM 2, demo), a Hugging Face id or "random" (SAM 2), a folder
            (MobileSAM), or None (demo).
        image_size: Side of the square input in pixels, or None for the segmenter's own.
        device: A torch device, such as `cpu` or `cuda:0`.
        precision: "float32", "bfloat16" or "auto" (see `speed.speed_of`).
        compile_encoder: Whether to compile the image encoder.

    Raises:
        UsageError: As `check_segmenter`, or the checkpoint is not one of this model.
    """
    choice = SegmenterChoice(name, checkpoint, image_size, precision, compile_encoder)
    check_segmenter(choice)
    segmenter: Segmenter = load(spec_of(name).build)(choice, device)
    return segmenter
