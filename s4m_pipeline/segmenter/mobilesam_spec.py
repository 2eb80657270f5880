"""MobileSAM by name: what is wrong with a choice of it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from s4m_pipeline.errors import UsageError
from s4m_pipeline.segmenter.spec import SegmenterChoice, SegmenterSpec

if TYPE_CHECKING:
    from s4m_pipeline.segmenter.base import Segmenter

IMAGE_SIZE = 1024
"""Side of the square input in pixels, the only one that its ONNX graph takes."""
ENCODER, DECODER = "encoder.onnx", "decoder.safetensors"
"""The files of its folder."""


def _check(choice: SegmenterChoice) -> None:
    if choice.image_size not in (None, IMAGE_SIZE):
        raise UsageError(f"segmenter mobilesam takes {IMAGE_SIZE} px only, not {choice.image_size}")
    if choice.faster:
        raise UsageError(f"segmenter mobilesam has no {' and no '.join(choice.faster)}")
    if choice.checkpoint is None:
        raise UsageError("segmenter mobilesam needs segmenter.checkpoint, the folder of its files")
    for file in (ENCODER, DECODER):
        if not (Path(choice.checkpoint) / file).is_file():
            raise UsageError(f"segmenter mobilesam: there is no {file} in {choice.checkpoint}")


def _build(choice: SegmenterChoice, device: str) -> Segmenter:
    from s4m_pipeline.segmenter.mobilesam import MobileSam

    return MobileSam(Path(str(choice.checkpoint)), device)


SPEC = SegmenterSpec(
    {"mobilesam": "MobileSAM: TinyViT encoder as ONNX, SAM's decoder; for CPUs"}, _check, _build
)
