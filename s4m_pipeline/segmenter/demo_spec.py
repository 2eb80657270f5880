"""The demo's segmenter by name: what is wrong with a choice of it, and its packaged weights."""

from __future__ import annotations

from pathlib import Path

from s4m_pipeline.errors import UsageError
from s4m_pipeline.segmenter.spec import SegmenterChoice, SegmenterSpec, check_multiple

DEMO_SIZE_STEP = 32
"""The side of the input must be a multiple of this many pixels."""

DEMO_WEIGHTS = Path(__file__).parent / "weights" / "demo.safetensors"
"""The weights that ship with the package: float16 tensors, about 3 MB."""


def _check(choice: SegmenterChoice) -> None:
    check_multiple(choice, DEMO_SIZE_STEP)
    if choice.checkpoint is not None and not Path(choice.checkpoint).is_file():
        raise UsageError(f"segmenter demo: there is no checkpoint {choice.checkpoint}")


SPEC = SegmenterSpec(
    {"demo": "a small SAM 2 whose weights come with the package"},
    _check,
    "s4m_pipeline.segmenter.demo:build_demo_segmenter",
    DEMO_WEIGHTS,
)
