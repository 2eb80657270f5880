"""What a segmenter says of itself before it is loaded. Importing this module needs no torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from s4m_pipeline.errors import UsageError


@dataclass(frozen=True, slots=True)
class SegmenterChoice:
    """A segmenter as a run asks for it.

    Attributes:
        name: One of the names in a `SegmenterSpec`.
        checkpoint: Its weights, in whichever form the segmenter takes them; None for its own.
        image_size: Side of the square input in pixels; None for the segmenter's own.
        precision: "float32", "bfloat16", or "auto", which is bfloat16 on a GPU that has it.
        compile_encoder: Whether to compile the image encoder.
    """

    name: str
    checkpoint: str | Path | None = None
    image_size: int | None = None
    precision: str = "float32"
    compile_encoder: bool = False

    @property
    def faster(self) -> list[str]:
        """The settings that ask for a faster way than float32, as a message names them."""
        settings = ["precision bfloat16"] if self.precision == "bfloat16" else []
        return [*settings, "compile"] if self.compile_encoder else settings


@dataclass(frozen=True, slots=True)
class SegmenterSpec:
    """All that the pipeline needs to know of a segmenter.

    A module that holds one, and a line in `build.SPECS`, make a segmenter: the check of a run's
    file, the messages and the digest of the weights are all made from it.

    Attributes:
        names: The names that a run's file may choose it by, each with a line of help.
        check: Refuses a choice that cannot be built (UsageError) without loading anything.
        build: Names what makes the segmenter, as ``package.module:function``: it takes a checked
            choice and a torch device such as ``cuda:0``, and is imported when it is called.
        own_weights: The file of the weights that it takes where a run names no checkpoint; None
            where it has none.
    """

    names: Mapping[str, str]
    check: Callable[[SegmenterChoice], None]
    build: str
    own_weights: Path | None = None


def check_multiple(choice: SegmenterChoice, step: int) -> None:
    """Refuse an image size that is no positive multiple of a step in pixels (UsageError)."""
    size = choice.image_size
    if size is not None and (size < step or size % step):
        near = max(step, round(size / step) * step)
        raise UsageError(
            f"segmenter {choice.name} takes sizes that are a multiple of {step} px, not {size}; "
            f"the nearest is {near}"
        )
