"""Deformable attention by `deformops`: when it is taken, and that it is the same function."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
from torch import Tensor

from s4m_pipeline.models.mask2former import deformable, triton_attention
from s4m_pipeline.models.mask2former.deformable import deformable_attention, in_pytorch
from tests.models.mask2former.test_deformable import SHAPES, given


@pytest.fixture(autouse=True)
def _forget() -> None:
    triton_attention.triton_attention.cache_clear()


def test_it_is_taken_where_it_can_run(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[torch.device] = []

    def choose(device: torch.device) -> Any:
        asked.append(device)
        return lambda value, shapes, places, weights: (value, shapes, places, weights)

    monkeypatch.setattr(deformable, "triton_attention", choose)
    value, places, weights = given()
    sums: Any = deformable_attention(value, SHAPES, places, weights)
    assert all(a is b for a, b in zip(sums, (value, SHAPES, places, weights), strict=True))
    assert asked == [value.device]


def test_it_is_not_taken_on_a_cpu_or_an_old_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (6, 1))
    assert triton_attention.triton_attention(torch.device("cpu")) is None
    assert triton_attention.triton_attention(torch.device("cuda", 0)) is None


@pytest.mark.parametrize(
    ("error", "told"),
    [(ImportError("no deformops"), []), (RuntimeError("no C compiler"), ["no C compiler"])],
)
def test_it_is_not_taken_where_its_kernels_fail(
    error: Exception, told: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> Tensor:
        raise error

    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    monkeypatch.setattr(triton_attention, "_try", fail)
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        assert triton_attention.triton_attention(torch.device("cuda", 0)) is None
    assert [text in str(one.message) for one, text in zip(seen, told, strict=True)] == [True] * len(
        told
    )


def test_it_is_the_same_function_with_the_same_gradients_in_float32() -> None:
    """On a CPU `deformops` answers with its own PyTorch form: arguments and order are right."""
    pytest.importorskip("deformops", reason="needs deformops, which is for Python 3.12 on")
    triton_attention._try(torch.device("cpu"))
    tensors: list[Tensor] = [tensor.requires_grad_() for tensor in given()]
    value, places, weights = tensors
    ours = in_pytorch(value, SHAPES, places, weights)
    with torch.autocast("cpu", torch.bfloat16):
        theirs = triton_attention.attend(value, SHAPES, places, weights)
    assert theirs.dtype == torch.float32
    torch.testing.assert_close(theirs, ours, rtol=1e-5, atol=1e-5)
    part = torch.rand_like(ours)
    mine, other = (torch.autograd.grad((f * part).sum(), tensors) for f in (ours, theirs))
    for a, b in zip(mine, other, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)
