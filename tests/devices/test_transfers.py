"""Copies between host and device."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from s4m_pipeline.devices.transfers import HostCopy, bytes_to_device, to_device, upload

CUDA = pytest.param(
    "cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
)


@pytest.mark.parametrize("name", ["cpu", CUDA])
def test_values_go_to_the_device_and_back_unchanged(name: str) -> None:
    device = torch.device(name)
    values = torch.randn(3, 5, generator=torch.Generator().manual_seed(0))
    there = to_device(values, device)
    assert there.device.type == name
    assert to_device(there, there.device) is there  # as a mask prompt of a second pass is
    for _ in range(3):
        assert torch.equal(upload(values, device), there)
    copy = HostCopy(there * 2)
    np.testing.assert_array_equal(copy.array(), values.numpy() * 2)


def test_nothing_is_copied_on_a_cpu() -> None:
    values = torch.arange(6.0)
    assert to_device(values, torch.device("cpu")) is values
    assert np.shares_memory(HostCopy(values).array(), values.numpy())


@pytest.mark.parametrize("name", ["cpu", CUDA])
def test_arrays_of_bytes_arrive_one_after_another(name: str) -> None:
    parts = [np.full((n, 2, 3), n, np.uint8) for n in (2, 0, 1)] + [np.ones((1, 2, 3), bool)]
    sent = bytes_to_device(parts, torch.device(name))
    assert sent.device.type == name
    np.testing.assert_array_equal(sent.cpu().numpy(), np.concatenate(parts).astype(np.uint8))
