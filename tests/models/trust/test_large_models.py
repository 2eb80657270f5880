"""Checkpoints of a few kilobytes that ask for a model of terabytes, or of a million layers."""

from __future__ import annotations

import resource
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from mmdet.registry import MODELS
from mmengine.config import ConfigDict
from mmengine.registry import init_default_scope

from s4m_pipeline.errors import ArtifactError
from s4m_pipeline.models.checkpoints import FORMAT, VERSION, build_model, plain, read_checkpoint
from s4m_pipeline.models.model_config import read_model_config
from s4m_pipeline.models.openmmlab import prepare
from s4m_pipeline.models.trust.build_bounds import held_to
from s4m_pipeline.models.trust.model_check import for_prediction

Edit = Callable[[dict[str, Any]], None]
LARGE = 1 << 20


def sets(path: str, value: Any) -> Edit:
    """An edit that sets what stands under a path of keys."""

    def edit(model: dict[str, Any]) -> None:
        *above, last = path.split(".")
        for key in above:
            model = model[key]
        model[last] = value

    return edit


def backbone(kind: str, **arguments: Any) -> Edit:
    return sets("backbone", {"type": kind, **arguments})


NUMBERS = {
    "layers of the decoder": sets("panoptic_head.transformer_decoder.num_layers", LARGE),
    "layers of the encoder": sets("panoptic_head.pixel_decoder.encoder.num_layers", LARGE),
    "layers inside one": sets("panoptic_head.transformer_decoder.layer_cfg.ffn_cfg.num_fcs", LARGE),
    "width of one": sets(
        "panoptic_head.transformer_decoder.layer_cfg.ffn_cfg.feedforward_channels", LARGE
    ),
    "queries": sets("panoptic_head.num_queries", LARGE),
    "points": sets(
        "panoptic_head.pixel_decoder.encoder.layer_cfg.self_attn_cfg.num_points", 10_000
    ),
    "channels": sets("panoptic_head.feat_channels", 30_000),
    "channels of the first map": sets("backbone.base_channels", 10_000),
    "stages": backbone("SwinTransformer", depths=[LARGE] * 4),
    "a window": backbone("SwinTransformer", window_size=20_000),
    "positions": backbone("TimmViT", model_name="vit_tiny_patch16_224", position_grid=LARGE),
    "a share": backbone("CSPNeXt", deepen_factor=100_000.0),
    "a list": sets("backbone.out_indices", list(range(15_000))),
    "padding": sets("data_preprocessor.pad_size_divisor", LARGE),
    "results": sets("test_cfg.max_per_image", LARGE),
    "a number of a thousand bits": sets("panoptic_head.num_queries", 1 << 1000),
    "infinity": sets("panoptic_head.num_queries", float("inf")),
    "no number": sets("panoptic_head.num_queries", float("nan")),
}
"""Refused by their numbers."""
TOGETHER = {
    "wide layers": sets(
        "panoptic_head.transformer_decoder.layer_cfg.ffn_cfg.feedforward_channels", 8192
    ),
    "many layers": sets("panoptic_head.transformer_decoder.num_layers", 256),
    "many wide layers": lambda model: [
        sets("panoptic_head.transformer_decoder.num_layers", 256)(model),
        sets("panoptic_head.transformer_decoder.layer_cfg.ffn_cfg.num_fcs", 16)(model),
    ],
    "many stages": backbone("SwinTransformer", depths=[256] * 4, embed_dims=8192),
    "a giant of timm": backbone("TimmBackbone", model_name="vit_giant_patch14_224"),
}
"""Each number is one of a real model, all of them are beyond the weights."""


@pytest.fixture(scope="module")
def model() -> dict[str, Any]:
    prepare()
    found: dict[str, Any] = plain(read_model_config("mask2former_demo", 3).model.to_dict())
    return found


def checkpoint_of(model: dict[str, Any], edit: Edit, path: Path, scale: Any = (64, 64)) -> Path:
    """A checkpoint with one weight."""
    model = plain(model)
    edit(model)
    meta = {"format": FORMAT, "format_version": VERSION, "model": model, "test_scale": scale}
    meta |= {"categories": [{"id": n, "name": f"{n}"} for n in range(3)], "iterations": 1}
    content = {"state_dict": {"a": torch.zeros(1)}, "meta": {**meta, "info": {}}}
    torch.save(content, path)
    return path


def refused(path: Path) -> str:
    """How a checkpoint's model is refused, in little time and memory."""
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.monotonic()
    with pytest.raises(ArtifactError, match="is not to be trusted") as caught:
        build_model(read_checkpoint(path), path)
    assert time.monotonic() - start < 20
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 1 << 20  # kilobytes
    return str(caught.value)


@pytest.mark.parametrize("kind", NUMBERS)
def test_a_number_beyond_real_models_is_refused(
    kind: str, model: dict[str, Any], tmp_path: Path
) -> None:
    told = refused(checkpoint_of(model, NUMBERS[kind], tmp_path / "a.pth"))
    assert "is not on the list" in told
    assert len(told) < 500


@pytest.mark.parametrize("kind", TOGETHER)
def test_a_model_is_no_larger_than_its_weights(
    kind: str, model: dict[str, Any], tmp_path: Path
) -> None:
    path = checkpoint_of(model, TOGETHER[kind], tmp_path / "a.pth")
    if kind in ("wide layers", "many layers"):  # small enough to be built, and then not to fit
        with pytest.raises(ArtifactError, match=r"a\.pth is (damaged|not to be trusted)"):
            build_model(read_checkpoint(path), path)
        return
    assert "asks for far more than the weights" in refused(path)


def test_a_scale_beyond_all_models_is_refused(model: dict[str, Any], tmp_path: Path) -> None:
    path = checkpoint_of(model, lambda _: None, tmp_path / "a.pth", (1 << 16, 1 << 16))
    assert "65536 x 65536" in refused(path)


@pytest.mark.parametrize("wrong", ["text", -5, [1, 2], None, True, {"type": "ReLU"}, 0.5])
def test_values_of_another_kind_are_told(wrong: Any, model: dict[str, Any], tmp_path: Path) -> None:
    for place in ("panoptic_head.num_queries", "backbone.depth", "test_cfg", "panoptic_head"):
        path = checkpoint_of(model, sets(place, wrong), tmp_path / "a.pth")
        with pytest.raises(ArtifactError, match=r"a\.pth is (damaged|not to be trusted)"):
            build_model(read_checkpoint(path), path)


def test_an_honest_model_is_far_within_its_bounds(model: dict[str, Any], tmp_path: Path) -> None:
    init_default_scope("mmdet")
    settings = ConfigDict({"train_cfg": None, **for_prediction(model)})
    weights = MODELS.build(settings).state_dict()
    with held_to(weights, tmp_path):
        again = MODELS.build(settings)
    assert {name: value.shape for name, value in again.state_dict().items()} == {
        name: value.shape for name, value in weights.items()
    }
    state = torch.random.get_rng_state()
    with held_to(weights, tmp_path):
        torch.zeros(3)
    assert torch.equal(state, torch.random.get_rng_state())
