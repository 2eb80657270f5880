"""Mask2Former of ``transformers`` with random weights, and its tensors under detectron2's names.

The export follows the names that the authors' code gives (facebookresearch/Mask2Former) and is
written from the other side than the package's conversion: name by name, without its tables.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

WIDTH = 64
QUERIES = 8
CLASSES = 4
DECODER_LAYERS = 4
HEADS = 4
MASK_WIDTH = 48
BLOCKS = {"resnet": (3, 4, 6, 3), "swin": (2, 1, 2, 1)}

CONFIG = """
_base_ = ["{base}"]
width = {width}
attention = dict(embed_dims=width, num_heads={heads})
deformable = dict(embed_dims=width, num_heads={heads})
small = dict(embed_dims=width, feedforward_channels=96)
large = dict(embed_dims=width, feedforward_channels=80)
model = dict(
    backbone={backbone},
    panoptic_head=dict(
        in_channels={channels},
        feat_channels=width,
        out_channels={mask_width},
        enforce_decoder_input_project={projected},
        pixel_decoder=dict(
            encoder=dict(num_layers=2, layer_cfg=dict(self_attn_cfg=deformable, ffn_cfg=small)),
            positional_encoding=dict(num_feats=width // 2),
        ),
        positional_encoding=dict(num_feats=width // 2),
        transformer_decoder=dict(
            num_layers={layers},
            layer_cfg=dict(self_attn_cfg=attention, cross_attn_cfg=attention, ffn_cfg=large),
        ),
    ),
)
train_pipeline = []
test_scale = (64, 64)
"""
BACKBONES = {
    "resnet": "dict(base_channels=8, stem_channels=8)",
    "swin": 'dict(_delete_=True, type="SwinTransformer", embed_dims=12, depths=(2, 1, 2, 1), '
    "num_heads=(1, 2, 3, 4), window_size=7, init_cfg=None)",
}
CHANNELS = {"resnet": [32, 64, 128, 256], "swin": [12, 24, 48, 96]}


def model_config(kind: str, base: str) -> str:
    """MMEngine config of the network that :func:`random_model` makes."""
    return CONFIG.format(
        base=base,
        backbone=BACKBONES[kind],
        channels=CHANNELS[kind],
        projected=kind == "swin",
        width=WIDTH,
        heads=HEADS,
        mask_width=MASK_WIDTH,
        layers=DECODER_LAYERS - 1,
    )


def random_model(kind: str) -> Any:
    """A Mask2Former on a small ResNet or Swin; no tensor is left as its initialisation has it."""
    from transformers import (
        Mask2FormerConfig,
        Mask2FormerForUniversalSegmentation,
        ResNetConfig,
        SwinConfig,
    )

    stages = ["stage1", "stage2", "stage3", "stage4"]
    if kind == "resnet":
        backbone = ResNetConfig(
            embedding_size=8, hidden_sizes=CHANNELS[kind], depths=BLOCKS[kind], out_features=stages
        )
    else:
        backbone = SwinConfig(
            embed_dim=12, depths=BLOCKS[kind], num_heads=[1, 2, 3, 4], out_features=stages
        )
    config = Mask2FormerConfig(
        backbone_config=backbone,
        feature_size=WIDTH,
        hidden_dim=WIDTH,
        mask_feature_size=MASK_WIDTH,
        encoder_feedforward_dim=96,
        dim_feedforward=80,
        encoder_layers=2,
        decoder_layers=DECODER_LAYERS,
        num_attention_heads=HEADS,
        num_queries=QUERIES,
        num_labels=CLASSES,
        enforce_input_projection=kind == "swin",
    )
    torch.manual_seed(3)
    model = Mask2FormerForUniversalSegmentation(config).eval()
    randomise(model)
    return model


def skip_without_projections(model: Any, kind: str) -> None:
    """Skip where the peer's weights lack what detectron2's models on a Swin have."""
    projections = model.model.transformer_module.input_projections
    if kind == "swin" and not isinstance(projections, nn.ModuleList):
        pytest.skip("before 5.23 transformers leaves input projections out of the weights")


def randomise(model: nn.Module) -> None:
    """Move every tensor away from zeros and ones, so that none can stand in for another."""
    with torch.no_grad():
        for name, value in model.state_dict().items():
            if name.endswith("running_var"):
                value.copy_(torch.rand_like(value) + 0.5)
            elif value.is_floating_point() and "empty_weight" not in name:
                value.add_(0.1 * torch.randn_like(value))


def detectron2_tensors(model: Any, kind: str) -> dict[str, Tensor]:
    """All tensors of a model under the names that detectron2 gives them."""
    state = {name: value.clone() for name, value in model.state_dict().items()}
    moved: dict[str, Tensor] = {}

    def move(source: str, target: str) -> None:
        for name in [name for name in state if name.startswith(source + ".")]:
            moved[target + name[len(source) :]] = state.pop(name)

    def join(sources: list[str], weight: str, bias: str) -> None:
        moved[weight] = torch.cat([state.pop(f"{name}.weight") for name in sources])
        moved[bias] = torch.cat([state.pop(f"{name}.bias") for name in sources])

    encoder = "model.pixel_level_module.encoder"
    (_resnet if kind == "resnet" else _swin)(encoder, state, moved, move, join)
    _pixel_decoder("model.pixel_level_module.decoder", state, moved, move)
    _predictor("model.transformer_module", state, moved, move, join)
    moved["criterion.empty_weight"] = state.pop("criterion.empty_weight")
    assert not state, f"not exported: {list(state)}"
    return moved


def _resnet(encoder: str, state: Any, moved: Any, move: Any, join: Any) -> None:
    def layer(source: str, target: str) -> None:
        move(f"{source}.convolution", target)
        state.pop(f"{source}.normalization.num_batches_tracked")  # FrozenBN has none
        move(f"{source}.normalization", f"{target}.norm")

    layer(f"{encoder}.embedder.embedder", "backbone.stem.conv1")
    for stage, count in enumerate(BLOCKS["resnet"]):
        for block in range(count):
            source = f"{encoder}.encoder.stages.{stage}.layers.{block}"
            target = f"backbone.res{stage + 2}.{block}"
            for number in range(3):
                layer(f"{source}.layer.{number}", f"{target}.conv{number + 1}")
            if block == 0:
                layer(f"{source}.shortcut", f"{target}.shortcut")


def _swin(encoder: str, state: Any, moved: Any, move: Any, join: Any) -> None:
    move(f"{encoder}.swin.embeddings.patch_embeddings.projection", "backbone.patch_embed.proj")
    move(f"{encoder}.swin.embeddings.norm", "backbone.patch_embed.norm")
    for stage, count in enumerate(BLOCKS["swin"]):
        for block in range(count):
            swin_block(
                f"{encoder}.swin.encoder.layers.{stage}.blocks.{block}",
                f"backbone.layers.{stage}.blocks.{block}",
                moved,
                move,
                join,
            )
        move(
            f"{encoder}.swin.encoder.layers.{stage}.downsample",
            f"backbone.layers.{stage}.downsample",
        )
        move(f"{encoder}.hidden_states_norms.stage{stage + 1}", f"backbone.norm{stage}")
    for name in ("weight", "bias"):
        state.pop(f"{encoder}.swin.layernorm.{name}")  # of a classifier; nothing reads it


def swin_block(source: str, target: str, moved: Any, move: Any, join: Any) -> None:
    """Move a Swin block; where its window's cells lie to each other is computed from scratch."""
    attention = f"{source}.attention"
    move(f"{source}.layernorm_before", f"{target}.norm1")
    move(f"{source}.layernorm_after", f"{target}.norm2")
    move(f"{source}.mlp.fc1", f"{target}.mlp.fc1")
    move(f"{source}.mlp.fc2", f"{target}.mlp.fc2")
    move(f"{attention}.relative_position_bias", f"{target}.attn")
    names = [f"{attention}.{part}_proj" for part in "qkv"]
    join(names, f"{target}.attn.qkv.weight", f"{target}.attn.qkv.bias")
    move(f"{attention}.o_proj", f"{target}.attn.proj")
    cells = [(row, column) for row in range(7) for column in range(7)]
    moved[f"{target}.attn.relative_position_index"] = torch.tensor(
        [[13 * (r - s + 6) + (c - d + 6) for s, d in cells] for r, c in cells]
    )


def _pixel_decoder(source: str, state: Any, moved: Any, move: Any) -> None:
    target = "sem_seg_head.pixel_decoder"
    move(f"{source}.input_projections", f"{target}.input_proj")
    moved[f"{target}.transformer.level_embed"] = state.pop(f"{source}.level_embed")
    for part in ("adapter_1", "layer_1"):
        move(f"{source}.{part}.0", f"{target}.{part}")
        move(f"{source}.{part}.1", f"{target}.{part}.norm")
    move(f"{source}.mask_projection", f"{target}.mask_features")
    for number in range(2):
        layer, other = f"{source}.encoder.layers.{number}", f"{target}.transformer.encoder.layers"
        for theirs, d2 in (
            ("self_attn", "self_attn"),
            ("self_attn_layer_norm", "norm1"),
            ("fc1", "linear1"),
            ("fc2", "linear2"),
            ("final_layer_norm", "norm2"),
        ):
            move(f"{layer}.{theirs}", f"{other}.{number}.{d2}")


def _predictor(source: str, state: Any, moved: Any, move: Any, join: Any) -> None:
    target = "sem_seg_head.predictor"
    move(f"{source}.queries_embedder", f"{target}.query_embed")
    move(f"{source}.queries_features", f"{target}.query_feat")
    move(f"{source}.level_embed", f"{target}.level_embed")
    move(f"{source}.input_projections", f"{target}.input_proj")
    move(f"{source}.decoder.layernorm", f"{target}.decoder_norm")
    move("class_predictor", f"{target}.class_embed")
    for number in range(3):
        move(
            f"{source}.decoder.mask_predictor.mask_embedder.{number}.0",
            f"{target}.mask_embed.layers.{number}",
        )
    for number in range(DECODER_LAYERS - 1):
        layer = f"{source}.decoder.layers.{number}"
        own, cross, ffn = (
            f"{target}.transformer_{part}_layers.{number}"
            for part in ("self_attention", "cross_attention", "ffn")
        )
        names = [f"{layer}.self_attn.{part}_proj" for part in "qkv"]
        join(names, f"{own}.self_attn.in_proj_weight", f"{own}.self_attn.in_proj_bias")
        move(f"{layer}.self_attn.out_proj", f"{own}.self_attn.out_proj")
        move(f"{layer}.self_attn_layer_norm", f"{own}.norm")
        move(f"{layer}.cross_attn", f"{cross}.multihead_attn")
        move(f"{layer}.cross_attn_layer_norm", f"{cross}.norm")
        move(f"{layer}.fc1", f"{ffn}.linear1")
        move(f"{layer}.fc2", f"{ffn}.linear2")
        move(f"{layer}.final_layer_norm", f"{ffn}.norm")
