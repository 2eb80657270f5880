"""Tiny data and models for the tests of this room."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pycocotools import mask as mask_api

from s4m_pipeline.artifacts.tables import write_table
from s4m_pipeline.data.scenes.scenes import class_names, generate_scenes
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
def structured(scenes: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Config of the same scenes with structural targets: eight random maps an image."""
    rng, points, grid = np.random.default_rng(0), 8, 16
    rows = [
        {
            "image_id": image["id"],
            "file_name": image["file_name"],
            "height": image["height"],
            "width": image["width"],
            "grid": grid,
            "points": rng.integers(0, 64, 2 * points).astype(np.float32).tolist(),
            "similarity": rng.integers(0, 256, points * grid**2, dtype=np.uint8).tobytes(),
            "scale": [2 / 255] * points,
            "offset": [-1.0] * points,
        }
        for image in json.loads(Path(scenes["annotations"]).read_text())["images"]
    ]
    folder = tmp_path_factory.mktemp("targets")
    write_table(folder / "structure/part-0.parquet", "structure", rows, CATEGORIES)
    return {**scenes, "structure": str(folder)}


@pytest.fixture(scope="session")
def refined(scenes: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Config of the same scenes, true masks as pseudo-labels, a third of them in doubt."""
    content = json.loads(Path(scenes["annotations"]).read_text())
    sizes = {i["id"]: (i["file_name"], i["height"], i["width"]) for i in content["images"]}
    rows = []
    for place, found in enumerate(sorted(content["annotations"], key=lambda a: a["image_id"])):
        name, height, width = sizes[found["image_id"]]
        counts = _counts(found["segmentation"], height, width)
        in_doubt = place % 3 == 0
        probs = np.full(len(CATEGORIES), 0.1 / len(CATEGORIES))
        probs[found["category_id"] - 1] += 0.7
        rows.append(
            {
                "image_id": found["image_id"],
                "file_name": name,
                "height": height,
                "width": width,
                "instance_id": place,
                "category_id": found["category_id"],
                "score": 0.4 if in_doubt else 0.75 + 0.05 * (place % 4),
                "class_probs": probs.tolist(),
                "bbox": found["bbox"],
                "area": int(found["area"]),
                "mask_rle": counts,
                "prompt_points": [],
                "soft_mask": b"",
                "soft_mask_box": [0, 0, 0, 0],
                "soft_mask_stride": 4.0,
                "teacher_mask_rle": counts,
                "candidate_ious": [],
                "candidate": -1,
                "agreement": 0.5 + 0.1 * (place % 5),
                "area_ratio": 1.0,
                "decision": "dropped" if in_doubt else "refined",
                "reason_code": "score" if in_doubt else "",
                "reason": "score 0.40 <= 0.7" if in_doubt else "",
            }
        )
    folder = tmp_path_factory.mktemp("refine")
    write_table(folder / "refined/part-0.parquet", "refined", rows, CATEGORIES)
    images = {"images": scenes["images"], "annotations": scenes["annotations"]}
    return {"type": "RefinedInstances", "artifact": str(folder), "images": images}


def _counts(segmentation: Any, height: int, width: int) -> bytes:
    if isinstance(segmentation, list):
        return bytes(mask_api.merge(mask_api.frPyObjects(segmentation, height, width))["counts"])
    if isinstance(segmentation["counts"], list):
        return bytes(mask_api.frPyObjects(segmentation, height, width)["counts"])
    return str(segmentation["counts"]).encode()


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
        labelled_batch=2,
        ema=0.99,
    )
