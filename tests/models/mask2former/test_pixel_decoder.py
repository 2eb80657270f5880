"""The pixel decoder whose sizes are known on the host, against MMDetection's own."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor

from s4m_pipeline.models.openmmlab import prepare

prepare()

from mmdet.models.layers import MSDeformAttnPixelDecoder  # noqa: E402
from mmdet.registry import MODELS  # noqa: E402
from mmengine.registry import init_default_scope  # noqa: E402

from s4m_pipeline.models.mask2former.pixel_decoder import SizedPixelDecoder, sized  # noqa: E402
from s4m_pipeline.models.model_config import read_model_config  # noqa: E402
from tests.models.waiting import Waits, note_calls  # noqa: E402

CHANNELS = (8, 16, 24, 32)


def config_of() -> dict[str, Any]:
    head = read_model_config("mask2former_r50_coco", 3).model.panoptic_head
    config = copy.deepcopy(head.pixel_decoder)
    config.encoder.num_layers = 2
    config.update(
        in_channels=list(CHANNELS),
        strides=[4, 8, 16, 32],
        feat_channels=256,
        out_channels=256,
    )
    return config


@pytest.fixture(scope="module")
def decoders() -> tuple[Any, Any]:
    """MMDetection's and ours with the same seed."""
    init_default_scope("mmdet")
    made = []
    for config in (config_of(), sized(config_of())):
        torch.manual_seed(0)
        decoder = MODELS.build(config)
        decoder.init_weights()
        made.append(decoder.eval())
    return made[0], made[1]


def maps_of(height: int, width: int) -> list[Tensor]:
    torch.manual_seed(1)
    return [
        torch.randn(2, channels, height // s, width // s, requires_grad=True)
        for channels, s in zip(CHANNELS, (4, 8, 16, 32), strict=True)
    ]


def test_maps_beyond_the_decoders_levels_are_left_as_mmdetection_leaves_them(
    decoders: tuple[Any, Any],
) -> None:
    """A neck may give one more than ``in_channels`` names."""
    theirs, ours = decoders
    maps = [*maps_of(64, 96), torch.randn(2, CHANNELS[-1], 1, 2)]
    first, second = ([mask, *levels] for mask, levels in (theirs(maps), ours(maps)))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize("size", [(64, 96), (128, 64)])
def test_values_and_gradients_are_mmdetections_to_the_bit(
    size: tuple[int, int], decoders: tuple[Any, Any]
) -> None:
    theirs, ours = decoders
    assert type(theirs) is MSDeformAttnPixelDecoder
    assert type(ours) is SizedPixelDecoder
    assert theirs.state_dict().keys() == ours.state_dict().keys()
    outputs = []
    for decoder in (theirs, ours):
        maps = maps_of(*size)
        mask, levels = decoder(maps)
        outs = [mask, *levels]
        weights = [torch.linspace(-1, 1, out.numel()).view(out.shape) for out in outs]
        total = sum((out * weight).sum() for out, weight in zip(outs, weights, strict=True))
        wanted = [*maps, *decoder.parameters()]
        outputs.append(outs + list(torch.autograd.grad(total, wanted, materialize_grads=True)))
    assert len(outputs[0]) == len(outputs[1])
    assert all(torch.equal(a, b) for a, b in zip(*outputs, strict=True))
    assert any(one.abs().sum() > 0 for one in outputs[0])


def test_the_host_never_waits_for_the_device(
    decoders: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs, ours = decoders
    counts = []
    for decoder in (theirs, ours):
        with monkeypatch.context() as patch, Waits() as waits:
            calls = note_calls(patch)
            decoder(maps_of(64, 96))
        counts.append([*waits.seen, *(call for call in calls if call != "tensor")])
    assert len(counts[0]) >= 13, "MMDetection's waits are seen"
    assert counts[1] == []


def test_only_mmdetections_own_decoder_is_replaced() -> None:
    other = {"type": "PixelDecoder", "in_channels": [1]}
    assert sized(other) is other
    given = config_of()
    before = copy.deepcopy(given)
    assert sized(given)["type"] is SizedPixelDecoder
    assert given == before


def test_a_head_is_built_with_it() -> None:
    init_default_scope("mmdet")
    model = read_model_config("mask2former_r50_coco", 3).model
    model.backbone.init_cfg = None
    assert type(MODELS.build(model).panoptic_head.pixel_decoder) is SizedPixelDecoder
