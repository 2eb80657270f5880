"""MobileSAM by name: what is wrong with a choice of it."""

from __future__ import annotations

from pathlib import Path

from s4m_pipeline.errors import UsageError
from s4m_pipeline.segmenter.spec import SegmenterChoice, SegmenterSpec

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


SPEC = SegmenterSpec(
    {"mobilesam": "MobileSAM: TinyViT encoder as ONNX, SAM's decoder; for CPUs"},
    _check,
    "s4m_pipeline.segmenter.mobilesam:build_mobilesam_segmenter",
)
