"""Scenes and a model so small that all stages run on them in seconds."""

from __future__ import annotations

from pathlib import Path

from s4m_pipeline.configs import MODELS
from s4m_pipeline.data.scenes.scenes import generate_scenes

SIZE = 64
"""Side of the scenes in pixels."""


def write_tiny(folder: Path, labelled: int, unlabelled: int, seed: int, queries: int) -> None:
    """Write ``scenes/labelled``, ``scenes/unlabelled`` and the model config ``tiny.py``.

    Args:
        folder: Where to.
        labelled: Scenes with masks.
        unlabelled: Scenes without.
        seed: Decides the scenes.
        queries: The model's; it predicts as many instances an image at most.
    """
    generate_scenes(folder / "scenes", labelled, seed, "labelled", size=SIZE)
    generate_scenes(folder / "scenes", unlabelled, seed, "unlabelled", size=SIZE)
    (folder / "tiny.py").write_text(
        f"""
_base_ = ["{MODELS / "mask2former_demo.py"}"]
model = dict(
    backbone=dict(base_channels=16, stem_channels=16),
    panoptic_head=dict(in_channels=[16, 32, 64, 128], num_queries={queries}),
    train_cfg=dict(num_points=128),
    test_cfg=dict(max_per_image={queries}),
)
train_pipeline = [dict(type="Resize", scale=({SIZE}, {SIZE}), keep_ratio=True)]
test_scale = ({SIZE}, {SIZE})
start = None
"""
    )
