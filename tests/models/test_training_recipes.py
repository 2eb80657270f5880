"""Every model config, built as it is; one of each kind trained and run on its data's layout.

The input is an eighth of the true one on a side; networks, queries and losses are the true ones.
"""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mmdet.registry import MODELS
from mmengine.hooks import CheckpointHook
from mmengine.registry import DefaultScope

from s4m_pipeline.configs import model_config_path, model_names
from s4m_pipeline.configs.losses import StudentLosses
from s4m_pipeline.data.images import read_image
from s4m_pipeline.models.checkpoints import plain
from s4m_pipeline.models.model_config import read_model_config
from s4m_pipeline.models.openmmlab import prepare
from s4m_pipeline.models.predictor import Predictor
from s4m_pipeline.models.training import TrainingSpec, train
from tests.models.conversion.layouts import cityscapes_layout, coco_layout

SHRINK = 8
LAYOUTS: dict[str, Callable[[Path], dict[str, Any]]] = {
    "coco": coco_layout,
    "cityscapes": cityscapes_layout,
}
CHANNELS = {
    "r50": [256, 512, 1024, 2048],
    "r101": [256, 512, 1024, 2048],
    "swin_t": [96, 192, 384, 768],
    "swin_s": [96, 192, 384, 768],
    "swin_b": [128, 256, 512, 1024],
    "swin_l": [192, 384, 768, 1536],
    "dinov2_s": [256] * 4,
    "dinov2_b": [256] * 4,
}
MILLIONS = {
    "r50": 23.5,
    "r101": 42.5,
    "swin_t": 27.5,
    "swin_s": 48.8,
    "swin_b": 86.9,
    "swin_l": 195.2,
    "dinov2_s": 22.1,
    "dinov2_b": 86.7,
}
"""Parameters of the published backbones without a classifier, DINOv2's with patches of 16 px."""


def shrunk(name: str, folder: Path) -> Path:
    """Write a config with the input of another an eighth as large."""
    config = read_model_config(name, 80)
    text = f"_base_ = [{str(model_config_path(name))!r}]\n"
    text += f"train_pipeline = {_smaller(plain(config.train_pipeline.copy()))!r}\n"
    text += f"test_scale = {_smaller(config.test_scale)!r}\n"
    augments = config.model.data_preprocessor.get("batch_augments")
    if augments:
        smaller = [{**step, "size": _smaller(step["size"])} for step in plain(augments)]
        text += f"model = dict(data_preprocessor=dict(batch_augments={smaller!r}))\n"
    path = folder / f"{name}.py"
    path.write_text(text)
    return path


def _smaller(value: Any) -> Any:
    """Divide the lengths in pixels, which are above 100; ratios and probabilities are not."""
    if isinstance(value, dict):
        return {key: _smaller(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_smaller(inner) for inner in value)
    return value // SHRINK if isinstance(value, int) and value > 100 else value


@pytest.fixture
def without_resuming(monkeypatch: pytest.MonkeyPatch) -> None:
    """Write no checkpoint to resume from: gigabytes here, and removed at the training's end."""
    monkeypatch.setattr(CheckpointHook, "_save_checkpoint", lambda self, runner: None)


@pytest.mark.slow
@pytest.mark.usefixtures("without_resuming")
@pytest.mark.parametrize("backbone", list(CHANNELS))
@pytest.mark.parametrize("data", ["coco", "cityscapes"])
def test_a_recipe_takes_a_step_and_predicts_on_its_datas_layout(
    spec: TrainingSpec, tmp_path: Path, data: str, backbone: str
) -> None:
    labelled = LAYOUTS[data](tmp_path / data)
    content = json.loads(Path(labelled["annotations"]).read_text())
    seen: dict[str, float] = {}
    result = train(
        replace(
            spec,
            model=shrunk(f"mask2former_{backbone}_{data}", tmp_path),
            categories=content["categories"],
            labelled=labelled,
            unlabelled={**labelled, "branch": "unlabelled"},
            labelled_batch=1,
            unlabelled_batch=1,
            iterations=1,
            ema=None,
            on_step=lambda _, losses: seen.update(losses),
        )
    )
    assert all(np.isfinite(value) for value in seen.values())
    for side in ("", "unlabelled_"):
        for loss in ("loss_cls", "loss_mask", "loss_dice"):
            assert f"{side}{loss}" in seen
            assert f"{side}d8.{loss}" in seen
            assert f"{side}d9.{loss}" not in seen
    image = read_image(Path(labelled["images"]) / content["images"][0]["file_name"])
    predictor = Predictor(result.checkpoint, "cpu")
    found = predictor.predict([image])[0]
    assert found.class_probs.shape == (100, len(content["categories"]))
    height, width = image.shape[:2]
    long, short = (1333 // 8, 800 // 8) if data == "coco" else (2048 // 8, 1024 // 8)
    scale = min(long / max(height, width), short / min(height, width))
    cells = [-(-round(side * scale) // 4) for side in (height, width)]
    assert list(found.mask_logits.shape[1:]) == cells
    assert len(predictor.detect([image])[0].scores) == 100


@pytest.mark.slow
@pytest.mark.parametrize("backbone", list(CHANNELS))
def test_every_backbone_has_its_published_size_and_strides(backbone: str) -> None:
    prepare()
    config = read_model_config(f"mask2former_{backbone}_coco", 80).model
    assert list(config.panoptic_head.in_channels) == CHANNELS[backbone]
    if backbone.startswith("dinov2"):
        pytest.importorskip("timm")
    with DefaultScope.overwrite_default_scope("mmdet"):
        parts = [MODELS.build(config[part]) for part in ("backbone", "neck") if part in config]
    count = sum(parameter.numel() for parameter in parts[0].parameters())
    assert count / 1e6 == pytest.approx(MILLIONS[backbone], abs=0.06)
    maps: Any = torch.rand(1, 3, 64, 96)
    with torch.inference_mode():
        for part in parts:
            part.eval()
            maps = part(maps)
    sides = [(64 // stride, 96 // stride) for stride in (4, 8, 16, 32)]
    assert [tuple(m.shape[1:]) for m in maps] == [
        (channels, *side) for channels, side in zip(CHANNELS[backbone], sides, strict=True)
    ]


def test_both_data_sets_have_every_backbone() -> None:
    for backbone in CHANNELS:
        for data in LAYOUTS:
            assert f"mask2former_{backbone}_{data}" in model_names()


@pytest.mark.slow
def test_rtmdet_trains_and_predicts_without_compiled_operators(
    spec: TrainingSpec, structured: dict[str, Any], tmp_path: Path
) -> None:
    pytest.importorskip("timm")
    path = tmp_path / "rtmdet.py"
    path.write_text(
        f"_base_ = [{str(model_config_path('rtmdet_ins_lite0'))!r}]\n"
        "model = dict(backbone=dict(weights=None), test_cfg=dict(score_thr=0.0))\n"
        'train_pipeline = [dict(type="Resize", scale=(64, 64), keep_ratio=True)]\n'
        "test_scale = (64, 64)\n"
    )
    seen: dict[str, float] = {}
    result = train(
        replace(
            spec,
            model=path,
            iterations=1,
            labelled=structured,
            unlabelled={**structured, "branch": "unlabelled"},
            labelled_batch=1,
            unlabelled_batch=1,
            losses=StudentLosses(structure_weight=1.0),
            on_step=lambda _, losses: seen.update(losses),
        )
    )
    assert seen["loss_mask"] > 0
    assert seen["loss_structure"] > 0
    assert seen["unlabelled_loss_cls"] > 0
    image = read_image(next(Path(spec.labelled["images"]).rglob("*.jpg")))
    predictor = Predictor(result.checkpoint, "cpu")
    found, detected = predictor.predict([image])[0], predictor.detect([image])[0]
    assert 0 < len(found.class_probs) == len(detected.labels) <= 100
    assert np.allclose(found.class_probs.max(1), detected.scores)
