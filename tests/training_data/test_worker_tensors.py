"""Tensors come out of a data worker as they went in, small ones without shared memory."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from s4m_pipeline.training_data.worker_tensors import BY_VALUE, send_small_tensors_by_value


def tensors() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    values = 200 * torch.rand(6, 7, generator=generator)
    kinds = (torch.bool, torch.uint8, torch.int32, torch.int64, torch.float32, torch.float64)
    return {
        **{str(kind): values.to(kind) for kind in kinds},
        "half": values.to(torch.bfloat16),
        "number": torch.tensor(3.5),
        "empty": torch.zeros(0, 4),
        "turned": values.t()[1:, ::2],
        "a row of much": torch.arange(8.0 * BY_VALUE).view(8, -1)[3, :5],
        "just small": torch.arange(BY_VALUE // 4, dtype=torch.int32),
        "large": torch.arange(BY_VALUE // 4 + 1, dtype=torch.int32),
    }


class Dicts:
    def __len__(self) -> int:
        return 1

    def __getitem__(self, place: int) -> dict[str, Tensor]:
        return tensors()


def begin(_worker: int) -> None:
    send_small_tensors_by_value()


@pytest.fixture(scope="module")
def arrived() -> dict[str, Tensor]:
    data: Any = Dicts()
    [[tensor]] = DataLoader(data, 1, num_workers=1, collate_fn=list, worker_init_fn=begin)
    return tensor


def test_values_types_and_shapes_are_kept(arrived: dict[str, Tensor]) -> None:
    assert arrived.keys() == tensors().keys()
    for name, sent in tensors().items():
        assert arrived[name].dtype == sent.dtype, name
        assert arrived[name].equal(sent), name
        arrived[name].fill_(1)
        assert bool((arrived[name] == 1).all()), "can be written to"


def test_only_large_ones_need_shared_memory(arrived: dict[str, Tensor]) -> None:
    shared = {name for name, tensor in arrived.items() if tensor.is_shared()}
    assert shared == {"half", "large"}
