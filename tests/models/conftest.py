"""Tiny data and models for the tests of this room."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from s4m_pipeline.data.scenes import class_names, generate_scenes
from s4m_pipeline.models.training import TrainingSpec

CATEGORIES = [{"id": i + 1, "name": name} for i, name in enumerate(class_names("demo"))]

TINY_MODEL = """
_base_ = ["{base}"]
start = None
width = 16
norm = dict(type="GN", num_groups=4)
attention = dict(embed_dims=width, num_heads=2)
deformable = dict(embed_dims=width, num_heads=2, num_points=1)
ffn = dict(embed_dims=width, feedforward_channels=16)
layer = dict(self_attn_cfg=attention, cross_attn_cfg=attention, ffn_cfg=ffn)
model = dict(
    backbone=dict(base_channels=8, stem_channels=8, norm_cfg=dict(num_groups=4)),
    panoptic_head=dict(
        in_channels=[8, 16, 32, 64],
        feat_channels=width,
        out_channels=width,
        num_queries=6,
        pixel_decoder=dict(
            norm_cfg=norm,
            encoder=dict(layer_cfg=dict(self_attn_cfg=deformable, ffn_cfg=ffn)),
            positional_encoding=dict(num_feats=width // 2),
        ),
        positional_encoding=dict(num_feats=width // 2),
        transformer_decoder=dict(num_layers=1, layer_cfg=layer),
    ),
    train_cfg=dict(num_points=64),
    test_cfg=dict(max_per_image=100),
)
train_pipeline = [
    dict(type="RandomFlip", prob=0.5),
    dict(
        type="RandomResize",
        scale=(64, 64),
        ratio_range=(0.8, 1.25),
        resize_type="Resize",
        keep_ratio=True,
    ),
    dict(
        type="RandomCrop",
        crop_size=(64, 64),
        crop_type="absolute",
        recompute_bbox=True,
        allow_negative_crop=True,
    ),
]
test_scale = (64, 64)
"""


@pytest.fixture(autouse=True)
def one_thread() -> None:
    """Results to the last bit, whatever else the machine does."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Config of a dataset of six scenes of 64 px."""
    folder = tmp_path_factory.mktemp("scenes")
    annotations = generate_scenes(folder, 6, 3, "train", size=64)
    return {
        "type": "CocoInstances",
        "annotations": str(annotations),
        "images": str(annotations.parent / "train"),
    }


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Path to the config of a Mask2Former that trains at 64 px in a blink."""
    from s4m_pipeline.configs import model_config_path

    path = tmp_path_factory.mktemp("model") / "tiny.py"
    path.write_text(TINY_MODEL.format(base=model_config_path("mask2former_demo")))
    return path


@pytest.fixture
def spec(tmp_path: Path, scenes: dict[str, Any], tiny_model: Path) -> TrainingSpec:
    """A training of two steps."""
    return TrainingSpec(
        folder=tmp_path / "training",
        model=tiny_model,
        categories=CATEGORIES,
        labelled=scenes,
        log_file=tmp_path / "log.jsonl",
        iterations=2,
        batch_size=2,
        ema=0.99,
    )
