"""Deformable attention against mmcv's own PyTorch form, and its float32 under autocast."""

from __future__ import annotations

import sys
from typing import Any

import pytest
import torch
from torch import Tensor

from s4m_pipeline.models import openmmlab
from s4m_pipeline.models.mask2former import deformable
from s4m_pipeline.models.mask2former.deformable import Float32Function, deformable_attention

SHAPES = torch.tensor([[3, 5], [6, 9], [12, 17]])
KEYS = int(SHAPES.prod(1).sum())


def given(images: int = 2, queries: int = 11, points: int = 4) -> tuple[Tensor, Tensor, Tensor]:
    """Values, places (some outside of the maps) and weights of 3 heads with 4 channels."""
    generator = torch.Generator().manual_seed(0)
    value = torch.randn(images, KEYS, 3, 4, generator=generator)
    places = 1.4 * torch.rand(images, queries, 3, len(SHAPES), points, 2, generator=generator) - 0.2
    weights = torch.rand(images, queries, 3, len(SHAPES), points, generator=generator)
    return value, places, weights


def by_hand(value: Tensor, places: Tensor, weights: Tensor) -> Tensor:
    """The weighted sum over bilinear samples, zero outside, by loops."""
    images, queries, heads, levels, points, _ = places.shape
    out = torch.zeros(images, queries, heads, value.shape[-1], dtype=torch.float64)
    firsts = [0, *SHAPES.prod(1).cumsum(0).tolist()]
    index = torch.cartesian_prod(
        *(torch.arange(n) for n in (images, queries, heads, levels, points))
    )
    for b, q, h, level, p in index.tolist():
        height, width = SHAPES[level].tolist()
        x, y = places[b, q, h, level, p].double() * torch.tensor([width, height]) - 0.5
        for row in (int(y.floor()), int(y.floor()) + 1):
            for column in (int(x.floor()), int(x.floor()) + 1):
                if 0 <= row < height and 0 <= column < width:
                    share = (1 - (x - column).abs()) * (1 - (y - row).abs())
                    key = firsts[level] + row * width + column
                    out[b, q, h] += share * weights[b, q, h, level, p] * value[b, key, h]
    return out.flatten(2)


def test_values_and_gradients_are_those_of_the_weighted_sum_of_bilinear_samples() -> None:
    tensors = [tensor.requires_grad_() for tensor in given(queries=4, points=2)]
    value, places, weights = tensors
    ours = deformable_attention(value, SHAPES, places, weights)
    formula = by_hand(value, places, weights)
    assert torch.allclose(ours.double(), formula, atol=1e-5)
    part = torch.rand_like(ours)
    mine, other = (torch.autograd.grad((f * part).sum(), tensors) for f in (ours, formula))
    for a, b in zip(mine, other, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("images", [1, 2])
def test_heads_sampled_one_by_one_or_together_give_the_same_bits(
    images: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    tensors = [tensor.requires_grad_() for tensor in given(images)]
    value, places, weights = tensors
    sums = []
    for size in (0, deformable.CACHED_BYTES):
        monkeypatch.setattr(deformable, "CACHED_BYTES", size)
        ours = deformable_attention(value, SHAPES, places, weights)
        sums.append([ours, *torch.autograd.grad(ours.square().sum(), tensors)])
    assert all(torch.equal(a, b) for a, b in zip(*sums, strict=True))


def test_mmcvs_layer_calls_it() -> None:
    if openmmlab.has_compiled_operators():
        pytest.skip("this mmcv has compiled operators")
    module = sys.modules["mmcv.ops.multi_scale_deform_attn"]
    assert module.multi_scale_deformable_attn_pytorch is deformable_attention


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_places_are_not_rounded_under_autocast(dtype: torch.dtype) -> None:
    value, places, weights = given()
    plain = deformable_attention(value.to(dtype), SHAPES, places, weights)
    with torch.autocast("cpu", torch.bfloat16):
        cast = deformable_attention(value.to(dtype), SHAPES, places, weights)
    assert cast.dtype == torch.float32
    assert torch.equal(cast, plain)


def test_the_compiled_function_is_given_float32() -> None:
    seen: list[tuple[Any, ...]] = []

    class Compiled:
        @staticmethod
        def apply(*args: Any) -> Tensor:
            seen.append((*args, torch.is_autocast_enabled("cpu")))
            return args[0]

    value, places, weights = given()
    with torch.autocast("cpu", torch.bfloat16):
        sums = Float32Function(Compiled).apply(
            value.bfloat16(), SHAPES, SHAPES[:, 0], places, weights.bfloat16(), 64
        )
    assert sums.dtype == torch.float32
    ((first, shapes, _, where, share, step, cast),) = seen
    assert {first.dtype, where.dtype, share.dtype} == {torch.float32}
    assert shapes is SHAPES
    assert (step, cast) == (64, False)
